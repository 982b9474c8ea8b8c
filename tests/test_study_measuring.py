"""Measures of a finished study: taken once, kept, reported, and asked for rightly."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from etils import epath
from rich.console import Console

from cnnjax.analysis.measures import MEASURES
from cnnjax.config import Config, DataConfig, MeasureConfig, RequestError
from cnnjax.data.dataset import Dataset
from cnnjax.study import measuring
from cnnjax.study.command import OK, WRONG_REQUEST
from cnnjax.study.findings import read_arrays, read_findings
from cnnjax.study.measuring import check_measures, measure_study, unmeasured
from cnnjax.study.workdir import Study, read_study, write_study
from launch import main

ASKED = ("--config.measures.names=confusion,activity,cka", "--config.measures.images=40")


@pytest.fixture
def study(finished_study: Study, tmp_path: Path) -> Study:
    shutil.copytree(finished_study.folder, tmp_path / "study")
    return read_study(epath.Path(tmp_path / "study"))


def with_measures(study: Study, **settings: object) -> Study:
    arms = {
        arm: dataclasses.replace(config, measures=MeasureConfig(**settings))
        for arm, config in study.experiment.arms.items()
    }
    return dataclasses.replace(study, experiment=dataclasses.replace(study.experiment, arms=arms))


def test_mode_measure_measures_old_runs_and_reports_them(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["launch.py", "--mode=measure", f"--workdir={study.folder}", *ASKED]
    assert main(flags) == OK
    assert "gaussian seed 1 (4 of 4): measuring cka" in capsys.readouterr().out
    results = pd.read_csv(study.folder / "results.csv")
    recall = results[(results.metric == "recall/3") & (results.arm == "learned") & (results.seed == 1)]
    assert len(recall) == 1 and recall.low.item() <= recall.value.item() <= recall.high.item()
    alike = results[results.metric == "cka/learned"]
    assert set(alike.arm) == {"gaussian"} and set(alike.stage) == {"input", "stage1", "head"}
    np.testing.assert_allclose(alike[alike.stage == "input"].value, 1, rtol=1e-5)
    page = (study.folder / "report.html").read_text()
    assert "Confusion matrix: learned" in page and "Dead units" in page
    matrix = read_arrays(study.units[0])["confusion/matrix"]
    assert matrix.sum() == 40
    assert {finding["split"] for finding in read_findings(study.units[0])} == {"test"}
    before = {path: path.stat().st_mtime_ns for path in Path(study.folder).glob("runs/*/*/measures/*")}
    assert main(flags) == OK
    assert "measuring" not in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path(study.folder).glob("runs/*/*/measures/*")} == before


def test_other_settings_do_not_overwrite(study: Study, digits: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    asked = with_measures(study, names=("confusion",), images=40)
    data = next(iter(study.experiment.arms.values())).data
    measure_study(asked, {data: digits}, Console(quiet=True))
    file = study.units[0].folder / "measures" / "confusion.json"
    before = file.read_text()
    again = ["launch.py", "--mode=measure", f"--workdir={study.folder}", "--config.measures.names=confusion"]
    assert main([*again, "--config.measures.images=50"]) == WRONG_REQUEST
    said = f"config.measures.images: {file} was measured with 40, not 50; remove it to measure anew\n"
    assert capsys.readouterr().err == said
    assert file.read_text() == before
    file.write_text("{")
    with pytest.raises(RequestError, match=r"confusion.json is not what cnnjax wrote"):
        unmeasured(study.units[0], MeasureConfig(names=("confusion",)))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--config.measures.names=acuracy"], "unknown measure 'acuracy'; did you mean 'accuracy'?"),
        (
            ["--config.measures.names=accuracy", "--config.measures.transformations=rotate"],
            "config.measures.transformations: unknown transformation 'rotate'; there are: translation,",
        ),
        (
            ["--config.measures.names=accuracy", "--config.measures.transformations=stretch"],
            "config.measures.transformations: stretch is for 1 spatial dimensions; the data have 2",
        ),
        ([], "config.measures.names: none given; there are: accuracy, "),
        (["--config.optim.lr=1"], "config.optim.lr: --mode=measure changes nothing but --config.measures"),
    ],
)
def test_wrong_request_is_one_line(
    flags: list[str], says: str, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (study.folder / "study.json").read_text()
    assert main(["launch.py", "--mode=measure", f"--workdir={study.folder}", *flags]) == WRONG_REQUEST
    said = capsys.readouterr().err
    assert says in said and len(said.splitlines()) == 1
    assert (study.folder / "study.json").read_text() == before


def test_run_without_a_checkpoint_or_of_another_size_is_a_clear_line(study: Study, digits: Dataset) -> None:
    asked = with_measures(study, names=("confusion",))
    data = next(iter(study.experiment.arms.values())).data
    smaller = dataclasses.replace(digits, summary=dataclasses.replace(digits.summary, shape=(4, 4, 1)))
    with pytest.raises(RequestError, match=r"was trained on \(8, 8, 1\); the data are \(4, 4, 1\)"):
        measure_study(asked, {data: smaller}, Console(quiet=True))
    shutil.rmtree(study.units[0].folder / "checkpoints")
    with pytest.raises(RequestError, match="has no checkpoint that can be read"):
        measure_study(asked, {data: digits}, Console(quiet=True))
    assert not list(Path(study.folder).glob("runs/*/*/measures/*"))


def test_config_asks_for_measures_that_are_checked_before_training() -> None:
    config = Config(data=DataConfig(name="toy"), measures=MeasureConfig(names=tuple(MEASURES)))
    check_measures(config, (8, 8, 1))
    with pytest.raises(RequestError, match="translation is for 2 spatial dimensions; the data have 1"):
        check_measures(config, (40, 1))


def test_measures_may_be_added_to_a_study(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(measuring, "measure_unit", lambda unit, *_: taken.append((unit.arm, unit.seed)))
    asked = with_measures(study, names=("activity",))
    write_study(asked)
    measure_study(read_study(study.folder), {}, Console(quiet=True))
    assert taken == [("learned", 0), ("gaussian", 0), ("learned", 1), ("gaussian", 1)]
    assert json.loads((study.folder / "study.json").read_text())["arms"]["learned"]["measures"]["names"] == ["activity"]
