"""Both forms of Goodfellow's score against a loop and theory."""

import math

import jax
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.analysis import goodfellow
from cnnjax.analysis.goodfellow import goodfellow_scores
from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.analysis.sweep import Sweep
from cnnjax.layers.blocks import ConvBlock
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.layers.region_pooling import GlobalPool
from cnnjax.models.network import Network, Stage
from cnnjax.ops.pooling import global_max_pool
from tests.variables import drawn_variables

SIGNALS = np.random.default_rng(4).integers(-40, 40, size=(330, 5, 1)).astype(np.float32)
STAGE = Stage("stage", ConvBlock(Conv(3, 3, border="circular"), nn.relu))
POOLED = Network((STAGE, Stage("pool", GlobalPool(global_max_pool)), Stage("head", Dense(7))))
# In eighths and quarters, so that sums are exact in any order: behind a threshold the last bit is a whole difference.
VARIABLES = jax.tree.map(lambda leaf: np.round(4 * leaf) / 4, drawn_variables(POOLED, (1, 5, 1)))
SUBJECT = Subject(POOLED, VARIABLES, (0.0,), (8.0,))
KEY = jax.random.key(0)


def by_loop(before: np.ndarray, after: list[np.ndarray], strongest: int, reference: int) -> tuple[float, float]:
    """Of activations [N, U], and those at each magnitude; the thresholds are set on so many of them."""
    units = before.shape[1]
    firing = reference // 100
    tops, wholes = [], []
    for unit in range(units):
        top, whole = [], []
        for sign in (1, -1):
            values = sign * before[:, unit]
            order = np.sort(values[:reference])[::-1]
            threshold = order[firing]
            fires = [sign * moved[:, unit] > threshold for moved in after]
            driving = (values > threshold) & (values >= order[min(strongest, firing) - 1])
            top.append(np.mean([f[driving].mean() for f in fires]) / (firing / reference) if driving.any() else 0)
            rate = np.mean(values > threshold)
            whole.append(np.mean([f.mean() for f in fires]) / rate if rate else 0)
        tops.append(max(top))
        wholes.append(max(whole))
    best = math.ceil(0.2 * units)
    return float(np.mean(sorted(tops)[-best:])), float(np.mean(sorted(wholes)[-best:]))


@pytest.mark.parametrize("reference", [330, 210])
def test_scores_are_those_of_a_loop(reference: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goodfellow, "REFERENCE", reference)
    shifts = [-1, 0, 2]
    findings = goodfellow_scores(Sweep(SUBJECT, SIGNALS, "shift", shifts, KEY, 128), strongest=2)
    assert [f.stage for f in findings] == [s for s in SUBJECT.stages for _ in range(2)]
    assert all(f.low < f.value < f.high for f in findings[1:4:2])
    before = stage_outputs(SUBJECT, SIGNALS)
    after = [stage_outputs(SUBJECT, np.roll(SIGNALS, shift, axis=1)) for shift in shifts]
    values = {(f.stage, f.metric.split("_")[1]): f.value for f in findings}
    for stage in ("input", "stage"):
        flat = [np.asarray(outputs[stage]).reshape(330, -1) for outputs in (before, *after)]
        top, whole = by_loop(flat[0], flat[1:], 2, reference)
        np.testing.assert_allclose([values[stage, "top"], values[stage, "whole"]], [top, whole], rtol=1e-6)
        assert 30 < top < 80


def test_an_invariant_unit_has_the_greatest_score_and_only_its_distribution_counts_as_a_whole() -> None:
    findings = goodfellow_scores(Sweep(SUBJECT, SIGNALS, "shift", [-1, 0, 2], KEY, 128))
    values = {(f.stage, f.metric): f.value for f in findings}
    np.testing.assert_allclose(values["pool", "shift/goodfellow_top"], 110)
    np.testing.assert_allclose(values["pool", "shift/goodfellow_whole"], 1)
    assert values["input", "shift/goodfellow_top"] < 90


def test_dead_units_score_nothing_and_so_many_as_asked_for_are_drawn() -> None:
    variables = jax.tree.map(np.zeros_like, SUBJECT.variables)
    dead = Subject(POOLED, variables, (0.0,), (10.0,))
    values = goodfellow_scores(Sweep(dead, SIGNALS, "shift", [0.0], KEY, 128), units=1)
    assert [f.value for f in values[2:]] == [0] * 6
    drawn = {
        goodfellow_scores(Sweep(SUBJECT, SIGNALS, "shift", [1.0, 2.0], jax.random.key(seed), 128), units=1)[3].value
        for seed in range(4)
    }
    assert len(drawn) > 1


def test_less_than_a_hundred_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs 100 images at least.*given 99, 5, 1024 and a key"):
        goodfellow_scores(Sweep(SUBJECT, SIGNALS[:99], "shift", [1.0], KEY))
