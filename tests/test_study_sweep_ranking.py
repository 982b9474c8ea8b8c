"""How trials stand, from what their runs have left on disk."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from cnnjax.config import Config, StudyConfig, TrainConfig
from cnnjax.study.experiment import Experiment, Lines
from cnnjax.study.statistics import estimate
from cnnjax.study.sweep.ranking import best_trial, compared, run_scores, rung_scores, standings
from cnnjax.study.sweep.trials import Sweep, plan_sweep
from cnnjax.study.workdir import Study, Unit

CONFIG = Config(train=TrainConfig(epochs=4), study=StudyConfig(seeds=2, baseline="b"))


def study_of(folder: Path, *specs: str) -> Study:
    """Two arms of two seeds."""
    sweep = plan_sweep(Sweep(specs, "grid", None, {"a": CONFIG, "b": CONFIG}))
    lines = Lines("model.width", {"both": ("a", "b")})
    return Study(epath.Path(folder), Experiment("question", "Why?", sweep.arms, lines=lines), 2, sweep=sweep)


def leave(folder: Path, arm: str, seed: int, state: str, *accuracies: float, end: float | None = None) -> Unit:
    """Writes a run that has been evaluated so often, once an epoch."""
    unit = Unit(arm, seed, epath.Path(folder) / "runs" / arm / f"seed{seed}")
    unit.folder.mkdir(parents=True)
    rows = [
        {"step": epoch, "epoch": epoch, "split": split, "accuracy": accuracy if split == "validation" else 1.0}
        for epoch, accuracy in enumerate(accuracies, 1)
        for split in ("train", "validation")
    ]
    (unit.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics: dict[str, Any] = {"validation": {"accuracy": max(accuracies, default=0.0) if end is None else end}}
    about = dict.fromkeys(("step", "steps", "epoch", "parameters", "parameters_trained", "features", "best_step"), 1)
    status = {"state": state, "metrics": metrics, "seconds": {}, "error": "", **about}
    (unit.folder / "status.json").write_text(json.dumps(status))
    return unit


def test_order_is_by_state_then_by_epochs_then_by_accuracy(tmp_path: Path) -> None:
    study = study_of(tmp_path, "a/optim.lr=1,2,3,4,5,6,7,8")
    runs = {
        1: [("finished", [0.1, 0.2]), ("finished", [0.3, 0.1])],
        2: [("finished", [0.1, 0.4]), ("finished", [0.2, 0.1])],
        3: [("paused", [0.9, 0.9]), ("paused", [0.9, 0.9])],
        4: [("paused", [0.8, 0.1, 0.1]), ("paused", [0.8, 0.1, 0.1])],
        5: [("diverged", [1.0]), ("finished", [1.0, 1.0])],
        6: [("running", [1.0]), ("finished", [1.0, 1.0])],
        8: [("failed", []), ("failed", [])],
    }
    for number, seeds in runs.items():
        for seed, (state, accuracies) in enumerate(seeds):
            leave(tmp_path, f"a,lr={number}", seed, state, *accuracies)
    found = standings(study, "a")
    assert [standing.name[-1] for standing in found] == list("21436758")
    assert [standing.state for standing in found] == [
        *("finished", "finished", "paused", "paused", "running", "waiting", "diverged", "failed")
    ]
    assert found[0].validation == estimate([0.4, 0.2])
    assert [standing.epochs for standing in found] == [4, 4, 3, 2, 1, 0, 1, 0]
    # Trials that failed, or of which a seed has not begun, have no mean that could be compared.
    assert [standing.validation.seeds for standing in found] == [2, 2, 2, 2, 2, 0, 0, 0]
    assert best_trial(study, "a") == "a,lr=2"


def test_trials_that_end_earlier_are_not_the_worse_for_it(tmp_path: Path) -> None:
    study = study_of(tmp_path, "a/train.epochs=1,4")
    for name, values in (("a,epochs=1", [0.9]), ("a,epochs=4", [0.1, 0.2, 0.3, 0.4])):
        for seed in range(2):
            leave(tmp_path, name, seed, "finished", *values)
    assert [standing.epochs for standing in standings(study, "a")] == [1, 4]


def test_equal_trials_stay_in_order(tmp_path: Path) -> None:
    study = study_of(tmp_path, "a/optim.lr=1,2")
    for name, values in (("a,lr=1", (0.3, 0.3)), ("a,lr=2", (0.1 + 0.2, 0.1 + 0.2))):
        for seed, value in enumerate(values):
            leave(tmp_path, name, seed, "finished", value)
    assert [standing.name for standing in standings(study, "a")] == ["a,lr=1", "a,lr=2"]


def test_nothing_is_best_before_one_has_finished(tmp_path: Path) -> None:
    study = study_of(tmp_path, "a/optim.lr=1,2")
    assert best_trial(study, "a") is None
    leave(tmp_path, "a,lr=1", 0, "finished", 0.1)
    assert best_trial(study, "a") is None


@pytest.mark.parametrize(
    ("state", "accuracies", "expected"),
    [
        ("running", [], []),
        ("paused", [0.3], [0.3]),
        ("paused", [0.3, 0.2], [0.3, 0.3]),
        ("running", [0.3, 0.4, 0.5], [0.3, 0.4]),
        ("finished", [0.3, 0.4, 0.6, 0.5], [0.3, 0.4, 0.6]),
        ("diverged", [0.3], [0.3, -math.inf]),
        ("failed", [], [-math.inf]),
    ],
)
def test_scores_at_the_rungs_that_a_run_has_reached(
    tmp_path: Path, state: str, accuracies: list[float], expected: list[float]
) -> None:
    unit = leave(tmp_path, "a", 0, state, *accuracies)
    assert run_scores(unit, (1, 2, 4), 1.0) == expected


def test_evaluation_at_a_rounded_step_counts_for_its_rung(tmp_path: Path) -> None:
    unit = leave(tmp_path, "a", 0, "paused")
    rows = [(0.5128, 0.3), (1.0, 0.5), (1.5128, 0.7)]
    text = "".join(json.dumps({"epoch": e, "split": "validation", "accuracy": a}) + "\n" for e, a in rows)
    (unit.folder / "metrics.jsonl").write_text(text)
    assert run_scores(unit, (0.5, 1.5, 4.5), 0.5) == [0.3, 0.7]


def test_rung_below_the_first_step_is_that_of_the_first_evaluation(tmp_path: Path) -> None:
    unit = leave(tmp_path, "a", 0, "paused", 0.3, 0.5)
    assert run_scores(unit, (0.25, 0.75, 4), 0.25) == [0.3, 0.3]


def test_run_that_failed_is_where_it_was_if_it_is_tried_again(tmp_path: Path) -> None:
    study = study_of(tmp_path, "a/optim.lr=1,2")
    for seed, state in enumerate(("failed", "paused")):
        leave(tmp_path, "a,lr=1", seed, state, *[0.3] * (seed + 1))
    failed = study.units[1]
    assert rung_scores(study, "a", (1, 2, 4))["a,lr=1"] == [0.3, -math.inf]
    assert rung_scores(study, "a", (1, 2, 4), {failed})["a,lr=1"] == [0.3]


def test_trial_is_at_the_rung_that_all_its_seeds_have_reached(tmp_path: Path) -> None:
    study = study_of(tmp_path, "a/optim.lr=1,2,3")
    for name, seeds in {"1": [(0.2, 0.4), (0.4,)], "2": [(0.5, 0.5), (0.5, 0.7)]}.items():
        for seed, accuracies in enumerate(seeds):
            leave(tmp_path, f"a,lr={name}", seed, "paused", *accuracies)
    scores = rung_scores(study, "a", (1, 2, 4))
    assert scores == {"a,lr=1": [pytest.approx(0.3)], "a,lr=2": [0.5, pytest.approx(0.6)], "a,lr=3": []}


def test_best_trials_are_compared_in_the_place_of_their_arms(tmp_path: Path) -> None:
    study = study_of(tmp_path, "optim.lr=1,2")
    assert list(compared(study).experiment.arms) == ["a", "b"]
    for arm, best in (("a", "1"), ("b", "2")):
        for seed in range(2):
            leave(tmp_path, f"{arm},lr={best}", seed, "finished", 0.5)
    found = compared(study)
    assert list(found.experiment.arms) == ["a,lr=1", "b,lr=2"]
    assert found.experiment.baseline == "b,lr=2"
    assert [unit.arm for unit in found.units] == ["a,lr=1", "b,lr=2"] * 2
    assert found.experiment.arms["b,lr=2"].optim.lr == 2
    assert found.experiment.lines == Lines("model.width", {"both": ("a,lr=1", "b,lr=2")})
    plain = dataclasses.replace(study, sweep=None)
    assert compared(plain) is plain


def test_arm_that_is_not_swept_is_compared_as_it_is(tmp_path: Path) -> None:
    study = study_of(tmp_path, "a/optim.lr=1,2")
    assert list(study.experiment.arms) == ["b", "a,lr=1", "a,lr=2"]
    assert list(compared(study).experiment.arms) == ["a", "b"]
    assert compared(study).experiment.baseline == "b"
