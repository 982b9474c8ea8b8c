"""What the report says of a sweep, on planted runs: tables, figures, and the page itself."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from etils import epath

from cnnjax.config import Config, ModelConfig, StudyConfig, TrainConfig
from cnnjax.study.experiment import Experiment
from cnnjax.study.report import write_report
from cnnjax.study.results import collect
from cnnjax.study.results_page import study_block
from cnnjax.study.sweep.figures import draw_sweep, parallel_coordinates, place, trial_curves
from cnnjax.study.sweep.ranking import Standing, standings
from cnnjax.study.sweep.report import best_lines, trial_sections, trial_table
from cnnjax.study.sweep.spec import Choices, Dimension, Range
from cnnjax.study.sweep.trials import Sweep, plan_sweep
from cnnjax.study.workdir import Study, write_study
from tests.planted_runs import PlantedRuns, best_at_a_tenth


def nan_at_one(config: Config, epoch: float) -> float:
    return math.nan if config.optim.lr == 1 else best_at_a_tenth(config, epoch)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Of two arms, one swept: its best trial has read the test split, one was stopped, one diverged, one waits."""
    config = Config(model=ModelConfig(width=16), train=TrainConfig(epochs=4), study=StudyConfig(seeds=2))
    bases = {"net": config, "floor": config}
    sweep = plan_sweep(Sweep(("net/optim.lr=0.01,0.1,1,10", "net/model.width=16"), "grid", None, bases))
    folder = epath.Path(tmp_path_factory.mktemp("sweep"))
    study = Study(folder, Experiment("question", "Why?", sweep.arms), 2, sweep=sweep)
    write_study(study)
    runs = PlantedRuns(nan_at_one)
    for unit in study.units:
        arm = study.experiment.arms[unit.arm]
        if arm.optim.lr != 10:
            runs.run(unit, arm, 2 if arm.optim.lr == 0.01 else None, unit.arm in ("floor", "net,lr=0.1,width=16"))
    return study


def test_table_has_a_row_for_each_trial(study: Study) -> None:
    table = trial_table(study)
    assert table.arm.tolist() == ["net"] * 4 and table["rank"].tolist() == [1, 2, 3, 4]
    assert table["optim.lr"].tolist() == ["0.1", "0.01", "10", "1"]
    assert table.state.tolist() == ["finished", "paused", "waiting", "diverged"]
    assert table.epochs.tolist() == [4, 2, 0, 0]
    np.testing.assert_allclose(table.validation, [0.9, 0.9 * (1 - 0.5 / 3), np.nan, np.nan])
    assert table.low[0] == pytest.approx(0.9) == table.high[0]


def test_table_as_text(study: Study) -> None:
    (section,) = trial_sections(study)
    assert section["arm"] == "net"
    assert section["headings"] == ["rank", "optim.lr", "model.width", "validation accuracy (%)", "epochs", "state"]
    assert section["rows"][:2] == [  # type: ignore[index]
        ["1", "0.1", "16", "90.0 [90.0, 90.0]", "4", "finished"],
        ["2", "0.01", "16", "75.0 [75.0, 75.0]", "2", "stopped"],
    ]
    assert best_lines(study) == ["net, best of 4 trials: net,lr=0.1,width=16, 90.0 [90.0, 90.0]% on validation"]


def test_page_compares_the_best_trial_with_the_other_arm(study: Study) -> None:
    write_report(study)
    page = (study.folder / "report.html").read_text()
    assert "<h2>Trials of net</h2>" in page and "75.0 [75.0, 75.0]" in page
    arms = page.split("<h2>Arms</h2>")[1].split("</table>")[0]
    assert "net,lr=0.1,width=16" in arms and "floor" in arms and "lr=0.01" not in arms
    assert "net,lr=1,width=16 seed 0 diverged" in page
    assert pd.read_csv(study.folder / "trials.csv").trial.tolist() == trial_table(study).trial.tolist()
    assert {path.name for path in (study.folder / "figures").glob("net*.svg")} == {
        "net_trials.svg",
        "net_trial_curves.svg",
    }


def test_results_stay_tidy_and_the_best_alone_has_a_test(study: Study) -> None:
    results = collect(study)
    tested = results[(results.metric == "accuracy") & (results.split == "test")]
    assert sorted(zip(tested.arm, tested.seed, strict=True)) == [
        (arm, seed) for arm in ("floor", "net,lr=0.1,width=16") for seed in (0, 1)
    ]


def test_page_of_results_names_the_best_trial(study: Study) -> None:
    block = study_block(study)
    assert "| net,lr=0.1,width=16 |" in block and "| net,lr=0.01,width=16 |" not in block
    assert "net, best of 4 trials" in block and "net,lr=1,width=16 seed 0 diverged" in block


@pytest.mark.parametrize(
    ("values", "placed"),
    [
        (Choices(("a", "b", "c")), {"a": 0.0, "b": 0.5, "c": 1.0}),
        (Choices(("a",)), {"a": 0.0}),
        (Range("log", False, 0.01, 1.0), {0.01: 0.0, 0.1: 0.5, 1.0: 1.0}),
        (Range("linear", True, 2.0, 4.0), {2: 0.0, 3: 0.5, 4: 1.0}),
    ],
)
def test_place_of_a_value(values: Choices | Range, placed: dict[str | float, float]) -> None:
    dimension = Dimension("optim.lr", values)
    assert {value: place(dimension, value) for value in placed} == pytest.approx(placed)


def seen(study: Study) -> list[Standing]:
    return [standing for standing in standings(study, "net") if standing.validation.seeds]


def test_lines_go_through_the_values_to_the_accuracy(study: Study) -> None:
    assert study.sweep is not None
    picture = parallel_coordinates("net", study.sweep.dimensions["net"], seen(study))
    (axes,) = picture.figure.axes
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    np.testing.assert_allclose([line.get_ydata() for line in lines], [[0, 0, 0], [1 / 3, 0, 1]])
    assert lines[1].get_linewidth() > lines[0].get_linewidth()
    assert [text.get_text() for text in axes.texts] == ["0.01", "0.1", "1", "10", "16", "75.0", "90.0"]


def test_curves_end_where_trials_were_stopped(study: Study) -> None:
    rows = [{"epoch": epoch, "split": s, "accuracy": 0.1 * epoch} for epoch in (1, 2) for s in ("train", "validation")]
    longer = pd.DataFrame([*rows, {"epoch": 3, "split": "validation", "accuracy": 0.5}])
    found = seen(study)
    picture = trial_curves("net", found, {found[0].name: [longer] * 2, found[1].name: [pd.DataFrame(rows)] * 2})
    lines = picture.figure.axes[0].lines
    np.testing.assert_allclose(lines[0].get_xydata(), [[1, 10], [2, 20]])
    np.testing.assert_allclose(lines[1].get_xydata(), [[1, 10], [2, 20], [3, 50]])


def test_nothing_is_drawn_before_a_trial_has_an_accuracy(tmp_path: Path) -> None:
    sweep = plan_sweep(Sweep(("optim.lr=1,2",), "grid", None, {"net": Config()}))
    study = Study(epath.Path(tmp_path), Experiment("question", "Why?", sweep.arms), 1, sweep=sweep)
    assert draw_sweep(study) == []
    assert best_lines(study) == ["net, best of 2 trials: none has finished"]
