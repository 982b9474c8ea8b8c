"""What a dry run says of searches that decide as they go, before and after some of it is done."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from cnnjax.config import Config, DataConfig, ModelConfig, StudyConfig, TrainConfig
from cnnjax.data.dataset import Dataset
from cnnjax.study.dry_run import Foreseen, work_of
from cnnjax.study.experiment import Experiment
from cnnjax.study.files import write_json
from cnnjax.study.request import OK, SweepFlags
from cnnjax.study.sweep.dry_run import foresee_sweep
from cnnjax.study.sweep.request import read_sweep
from cnnjax.study.workdir import Study, open_study
from cnnjax.train.interruption import Interruption
from cnnjax.train.packing import Gain
from launch import main
from tests.launching import EXPERIMENT, ROOT
from tests.planted_runs import PlantedRuns

CONFIG = Config(
    model=ModelConfig(name="logistic"),
    data=DataConfig(name="toy"),
    train=TrainConfig(epochs=9, batch_size=10, eval_batch_size=10),
    study=StudyConfig(seeds=2, slots=4, eta=3, min_epochs=1, pack=1),
)
PACE = 1e-6


@pytest.fixture(autouse=True)
def gains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnjax.study.dry_run.backend_gains", lambda _: [Gain(1000, "map", 1.0, 1000 * PACE)])


def opened(folder: Path, search: str, trials: int) -> Study:
    """A sweep of one arm of two."""
    flags = SweepFlags(("learned/optim.lr=log:1e-4:1",), search, trials)
    experiment = Experiment("question", "Why?", {"learned": CONFIG, "other": CONFIG})
    return open_study(epath.Path(folder), experiment, read_sweep(flags, experiment, epath.Path(folder)))


def foreseen(study: Study, toy: Dataset) -> Foreseen:
    return foresee_sweep(study, study.units, {CONFIG.data: toy}, Interruption())


def whole(toy: Dataset) -> float:
    """Seconds of a run."""
    return work_of(CONFIG, toy).all * PACE


def test_rungs_are_foreseen_by_the_trials_that_reach_them(tmp_path: Path, toy: Dataset) -> None:
    found = foreseen(opened(tmp_path / "w", "halving", 9), toy)
    assert (found.to_do, found.of) == (20, 20)
    assert [line.runs for line in found.lines] == [
        *("other seed 0", "other seed 1"),
        "learned: 9 trials, from epoch 0 to 1",
        "learned: 3 trials, from epoch 1 to 3",
        "learned: 1 trials, from epoch 3 to 9",
    ]
    assert {line.trained for line in found.lines[2:]} == {"4 trials at a time, alone"}
    assert [set(line.steps) for line in found.lines] == [{45}, {45}, {5}, {10}, {30}]
    runs = [1, 1, 18 / 9, 6 * 2 / 9, 2 * 6 / 9]
    assert [line.seconds for line in found.lines] == pytest.approx([share * whole(toy) for share in runs])


def test_rungs_that_were_reached_are_not_foreseen(tmp_path: Path, toy: Dataset) -> None:
    study, runs = opened(tmp_path / "w", "halving", 9), PlantedRuns()
    for unit in study.units:
        runs.run(unit, study.experiment.arms[unit.arm], 1 if unit.arm != "other" else None, test=True)
    left = [unit for unit in study.units if unit.arm != "other"]
    found = foresee_sweep(study, left, {CONFIG.data: toy}, Interruption())
    assert (found.to_do, found.of) == (6, 20)
    assert [line.runs for line in found.lines] == [
        "learned: 3 trials, from epoch 1 to 3",
        "learned: 1 trials, from epoch 3 to 9",
    ]


def test_trials_that_optuna_asks_for_are_foreseen_by_their_number(tmp_path: Path, toy: Dataset) -> None:
    study = opened(tmp_path / "w", "tpe", 10)
    found = foreseen(study, toy)
    assert (found.to_do, found.of) == (22, 22)
    assert [line.runs for line in found.lines[2:]] == ["learned: 10 trials that Optuna asks for"]
    assert found.lines[2].trained == "4 trials at a time, alone"
    assert found.lines[2].steps == (45,)
    assert found.lines[2].seconds == pytest.approx(20 * whole(toy))


def test_trials_that_optuna_asks_for_last_as_those_that_have_finished(tmp_path: Path, toy: Dataset) -> None:
    study = opened(tmp_path / "w", "tpe", 10)
    assert study.sweep is not None
    sweep = study.sweep.with_trials("learned", [{"optim.lr": 0.1}, {"optim.lr": 0.2}])
    study = dataclasses.replace(study, experiment=dataclasses.replace(study.experiment, arms=sweep.arms), sweep=sweep)
    about = dict.fromkeys(("parameters", "parameters_trained", "features", "best_step"), 1)
    for unit in study.units:
        status: dict[str, Any] = {"state": "failed", "error": "no memory"}
        if unit.arm == "learned,lr=0.1":
            status = {"state": "finished", "metrics": {}, **about, "seconds": {"train": 5.0, "compilation": 2.0}}
        unit.folder.mkdir(parents=True)
        write_json(unit.folder / "status.json", status)
    found = foreseen(study, toy)
    assert (found.to_do, found.of) == (20, 22)
    assert found.lines[2].runs == "learned: 9 trials that Optuna asks for"
    assert found.lines[2].seconds == 18 * 7
    done = dataclasses.replace(sweep, count=1)
    assert foreseen(dataclasses.replace(study, sweep=done), toy).lines[2:] == ()


def test_dry_run_of_a_sweep_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--arms=learned", "--sweep=optim.lr=log:1e-3:1", "--search=tpe", "--trials=64", "--dry_run"]
    assert main(["launch.py", f"--config={ROOT / EXPERIMENT}", f"--workdir={tmp_path / 'w'}", *flags]) == OK
    said = capsys.readouterr().out
    assert "64 of 64 runs to do" in said and "learned: 64 trials that Optuna asks for" in said
    assert list(tmp_path.iterdir()) == []
