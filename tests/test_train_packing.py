"""What runs gain from being trained together, measured on this machine's own devices."""

import math

import pytest

from cnnjax.train import packing
from cnnjax.train.interruption import Interruption, Stopped
from cnnjax.train.packing import measure_gains


@pytest.mark.slow
def test_gains_are_measured_on_wider_networks_until_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_WIDTHS", (1, 2, 3))
    for least, measured in ((0.0, 3), (math.inf, 1)):
        monkeypatch.setattr(packing, "LEAST_GAIN", least)
        gains = measure_gains(Interruption())
        assert len(gains) == measured
        assert sorted(gains, key=lambda gain: gain.multiply_adds) == gains
        assert all(0 < gain.ratio < 1000 and 0 < gain.seconds < 10 for gain in gains)


def test_measuring_is_interrupted() -> None:
    interruption = Interruption()
    interruption.receive(15)
    with pytest.raises(Stopped):
        measure_gains(interruption)
