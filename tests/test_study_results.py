"""What is collected from the runs on disk, and the summary of the arms."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from etils import epath
from scipy import stats

from cnnjax.config import Config, RequestError, StudyConfig
from cnnjax.study.experiment import Experiment
from cnnjax.study.results import COLUMNS, collect, percent, summarise, troubles, write_results
from cnnjax.study.statistics import Estimate
from cnnjax.study.workdir import Study

ACCURACY = {"learned": [0.90, 0.92, 0.97], "random": [0.80, None, 0.85], "linear": [None, None, None]}


def write_run(folder: epath.Path, status: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps(status))
    rows = [
        {"step": step, "epoch": step / 10, "split": split, "loss": 5 / step, "accuracy": step / 100}
        for step in (10, 20)
        for split in ("train", "validation")
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def finished(accuracy: float, parameters_trained: int) -> dict[str, Any]:
    return {
        "state": "finished",
        "best_step": 10,
        "metrics": {"validation": {"accuracy": 0.5}, "test": {"loss": 0.3, "accuracy": accuracy}},
        "parameters": 100,
        "parameters_trained": parameters_trained,
        "features": 12,
        "seconds": {"train": 100 * accuracy, "preparation": 1.0},
    }


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Three arms of three seeds: one whole, one with a failed seed, one that has only diverged or not begun."""
    arms = {arm: Config(study=StudyConfig(seeds=3, baseline="learned")) for arm in ("random", "learned", "linear")}
    study = Study(epath.Path(tmp_path), Experiment("fabricated", "Why?", arms), 3)
    for unit in study.units:
        accuracy = ACCURACY[unit.arm][unit.seed]
        if accuracy is not None:
            write_run(unit.folder, finished(accuracy, 100 if unit.arm == "learned" else 7))
        elif unit.arm == "random":
            write_run(unit.folder, {"state": "failed", "error": "ValueError: no", "where": "a.py:1"})
        elif unit.seed == 0:
            write_run(unit.folder, {"state": "diverged", "error": "the loss was nan"})
        elif unit.seed == 1:
            write_run(unit.folder, {"state": "running", "step": 3})
    return study


def test_collects_finished_runs_alone(study: Study) -> None:
    results = collect(study)
    assert tuple(results.columns) == COLUMNS
    units = {("random", 0), ("random", 2), ("learned", 0), ("learned", 1), ("learned", 2)}
    assert set(zip(results.arm, results.seed, strict=True)) == units
    one = results[(results.arm == "random") & (results.seed == 2)]
    found = {(None if pd.isna(row.split) else row.split, row.metric): row.value for row in one.itertuples()}
    assert found == {
        ("test", "accuracy"): 0.85,
        ("test", "loss"): 0.3,
        ("validation", "accuracy"): 0.5,
        ("train", "loss"): 0.25,
        ("train", "accuracy"): 0.2,
        (None, "parameters"): 100,
        (None, "parameters_trained"): 7,
        (None, "features"): 12,
        (None, "best_step"): 10,
        (None, "train_seconds"): 85.0,
        (None, "preparation_seconds"): 1.0,
    }
    assert len(one) == 11


def test_head_in_closed_form_has_its_strength_and_no_epochs(tmp_path: Path) -> None:
    study = Study(epath.Path(tmp_path), Experiment("fabricated", "Why?", {"only": Config()}), 1)
    folder = study.units[0].folder
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({**finished(0.9, 7), "strength": 0.01}))
    rows = [
        {"step": 0, "split": "validation", "strength": 0.1, "accuracy": 0.4},
        {"step": 1, "split": "validation", "strength": 0.01, "accuracy": 0.5},
        {"step": 2, "split": "train", "loss": 0.1, "accuracy": 0.7},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = collect(study)
    values = dict(zip(results.metric[results.split.isna()], results.value[results.split.isna()], strict=True))
    assert values["strength"] == 0.01
    assert results[(results.split == "train") & (results.metric == "accuracy")].value.tolist() == [0.7]


def test_results_are_written_as_they_are_returned(study: Study) -> None:
    results = write_results(study)
    assert [path.name for path in study.folder.iterdir() if path.is_file()] == ["results.csv"]
    read = pd.read_csv(study.folder / "results.csv")
    pd.testing.assert_frame_equal(read, results, check_dtype=False)


def test_summary_leaves_failed_seeds_out_and_counts_them(study: Study) -> None:
    summary = summarise(study, collect(study)).set_index("arm")
    assert list(summary.index) == ["random", "learned", "linear"]
    assert summary.finished.to_dict() == {"random": "2/3", "learned": "3/3", "linear": "0/3"}
    learned = summary.loc["learned"]
    interval = stats.ttest_1samp([0.90, 0.92, 0.97], 0).confidence_interval(0.95)
    assert learned.accuracy.mean == pytest.approx(0.93)
    assert (learned.accuracy.low, learned.accuracy.high) == pytest.approx((interval.low, interval.high))
    assert learned.seconds == pytest.approx(93)
    assert learned.parameters_trained == 100
    assert summary.loc["linear"].accuracy.seeds == 0
    assert pd.isna(summary.loc["linear"].parameters_trained)


def test_difference_is_paired_with_the_baseline(study: Study) -> None:
    summary = summarise(study, collect(study)).set_index("arm")
    interval = stats.ttest_rel([0.80, 0.85], [0.90, 0.97]).confidence_interval(0.95)
    difference = summary.loc["random"].difference
    assert difference.mean == pytest.approx(-0.11)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))
    assert difference.seeds == 2
    assert summary.loc["learned"].difference is None
    assert summary.loc["linear"].difference.seeds == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.jsonl", ""),
        ("metrics.jsonl", '{"step": 20, "split": "train"}\n'),
        ("status.json", json.dumps({**finished(0.9, 7), "metrics": 1})),
        ("status.json", json.dumps({**finished(0.9, 7), "seconds": {}})),
    ],
)
def test_damaged_run_is_named_in_one_line(study: Study, name: str, text: str) -> None:
    folder = study.units[0].folder
    (folder / name).write_text(text)
    with pytest.raises(RequestError, match=f"in {folder} are not what cnnjax wrote for a finished run"):
        collect(study)


def test_troubles_are_named(study: Study) -> None:
    assert troubles(study) == ["linear seed 0 diverged: the loss was nan", "random seed 1 failed: ValueError: no"]


def test_study_without_a_finished_run_is_empty(tmp_path: Path) -> None:
    study = Study(epath.Path(tmp_path), Experiment("fabricated", "Why?", {"only": Config()}), 2)
    results = collect(study)
    assert results.empty
    assert tuple(results.columns) == COLUMNS
    assert summarise(study, results).finished.tolist() == ["0/2"]


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (Estimate(0.951, 0.94, 0.9621, 3), False, "95.1 [94.0, 96.2]"),
        (Estimate(-0.02, -0.051, 0.011, 3), True, "-2.0 [-5.1, +1.1]"),
        (Estimate(0.5, 0.5, 0.5, 2), False, "50.0 [50.0, 50.0]"),
        (Estimate(0.951, float("nan"), float("nan"), 1), False, "95.1"),
        (Estimate(0.021, float("nan"), float("nan"), 1), True, "+2.1"),
        (Estimate(float("nan"), float("nan"), float("nan"), 0), False, "–"),
        (None, True, "–"),
    ],
)
def test_percent(value: Estimate | None, signed: bool, text: str) -> None:
    assert percent(value, signed=signed) == text
