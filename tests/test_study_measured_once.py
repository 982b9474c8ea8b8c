"""What is measured once for these devices, and kept."""

import json
from pathlib import Path

import pytest

from cnnjax.study import measured_once as module
from cnnjax.study.measured_once import measured_once, these_devices


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "compilation_folder", lambda: str(tmp_path / "cache"))
    return tmp_path / "cache"


def once(value: float) -> float:
    return measured_once("speed", float, lambda: value)


def test_is_measured_once(folder: Path) -> None:
    assert [once(1.5), once(2.5)] == [1.5, 1.5]
    assert json.loads((folder / "speed.json").read_text()) == {these_devices(): 1.5}
    assert measured_once("other", float, lambda: 3.0) == 3.0


def test_other_devices_have_values_of_their_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once(1.5)
    monkeypatch.setattr(module, "these_devices", lambda: "2 x abacus")
    assert once(2.5) == 2.5
    assert sorted(json.loads((folder / "speed.json").read_text()).values()) == [1.5, 2.5]


@pytest.mark.parametrize("damaged", ["", "[]", '{"1 x abacus, JAX 0": "fast"}'])
def test_what_cannot_be_read_is_measured_again(folder: Path, damaged: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "these_devices", lambda: "1 x abacus, JAX 0")
    folder.mkdir()
    (folder / "speed.json").write_text(damaged)
    assert once(1.5) == 1.5


def test_folder_that_cannot_be_written_costs_nothing_but_the_measurement(folder: Path) -> None:
    folder.write_text("a file")
    assert [once(1.5), once(2.5)] == [1.5, 2.5]
