"""Measures of a finished study: taken once, kept, reported, and asked for rightly."""

import dataclasses
import io
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from etils import epath
from rich.console import Console

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.gradients import gradient_norms
from cnnjax.analysis.measures import MEASURES
from cnnjax.analysis.occasion import Measured, Occasion
from cnnjax.config import MeasureConfig, RequestError
from cnnjax.data.dataset import Dataset, DataSummary
from cnnjax.study import measuring
from cnnjax.study.findings import read_arrays, read_findings
from cnnjax.study.loading import load
from cnnjax.study.measuring import check_measures, measure_study, pieces, unmeasured
from cnnjax.study.relatives import Relatives, finished_runs, relatives
from cnnjax.study.request import OK, WRONG_REQUEST
from cnnjax.study.workdir import Study, read_study, write_study
from cnnjax.train.assembly import assemble
from cnnjax.train.beginning import Shared
from cnnjax.train.interruption import Interruption
from cnnjax.train.step import variables_of
from launch import main

ASKED = ("--config.measures.names=confusion,activity,cka", "--config.measures.images=40")

ALONE = Relatives({}, {})


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


def test_mode_measure_measures_the_arms_and_seeds_that_are_named(study: Study) -> None:
    named = ("--config.measures.names=confusion", "--arms=gaussian", "--seeds=1")
    assert main(["launch.py", "--mode=measure", f"--workdir={study.folder}", *named]) == OK
    assert [path.parent.parent for path in Path(study.folder).glob("runs/*/*/measures/*.json")] == [
        Path(study.folder) / "runs" / "gaussian" / "seed0"
    ]
    arms = read_study(study.folder).experiment.arms
    assert {arm: config.measures.names for arm, config in arms.items()} == {"learned": (), "gaussian": ("confusion",)}


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
        unmeasured(study.units[0], MeasureConfig(names=("confusion",)), ALONE)


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
        (
            ["--config.measures.names=accuracy", "--config.measures.transformations=rotation,translation(border=zero)"],
            "config.measures.transformations: unknown border 'zero'; there are: circular, zeros, edge",
        ),
        (
            ["--config.measures.names=lie_derivative", "--config.measures.transformations=rotatoin"],
            "config.measures.transformations: unknown transformation 'rotatoin'; there are: translation,",
        ),
        (
            ["--config.measures.names=accuracy", "--config.measures.transformations=translation(direction=(1,))"],
            "config.measures.transformations: a direction is two numbers, down and to the right, as in (0,1); given",
        ),
        (["--arms=gausian"], "--arms: unknown arm 'gausian'; did you mean 'gaussian'?"),
        (["--config=experiments/depth.py"], "not of experiments/depth.py; leave it out"),
        (["--mode=report", "--seeds=1"], "--seeds: --mode=report reports all runs; leave it out"),
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
    shutil.rmtree(study.units[-1].folder / "checkpoints")
    with pytest.raises(RequestError, match="has no checkpoint that can be read"):
        measure_study(asked, {data: digits}, Console(quiet=True))
    assert not list(Path(study.folder).glob("runs/*/*/measures/*"))


def summary_of(shape: tuple[int, ...], examples: int = 1000) -> DataSummary:
    return DataSummary("toy", shape, 3, (0.0,), (1.0,), 0.0, 255.0, {"validation": 10, "test": examples})


@pytest.mark.parametrize(
    ("names", "fields", "shape", "problem"),
    [
        (("accuracy",), {}, (40, 1), "transformations: translation is for 2 spatial dimensions; the data have 1"),
        (("goodfellow",), {"images": 99}, (8, 8, 1), "images: goodfellow needs 100 at least; there are 99"),
        (("goodfellow",), {"split": "validation"}, (8, 8, 1), "images: goodfellow needs 100 at least; there are 10"),
        (("cka",), {"batch_size": 3}, (8, 8, 1), "batch_size: cka needs 4 at least; there are 3"),
        (
            ("lie_derivative",),
            {"transformations": ("blur",)},
            (8, 8, 1),
            "transformations: lie_derivative is along translation, rotation, scale, shear, shift, stretch; given blur",
        ),
    ],
)
def test_measures_are_checked_before_training(
    names: tuple[str, ...], fields: dict[str, Any], shape: tuple[int, ...], problem: str
) -> None:
    with pytest.raises(RequestError, match=f"^config.measures.{problem}$"):
        check_measures(MeasureConfig(names=names, **fields), summary_of(shape))


def test_measures_that_read_no_transformation_are_for_any_data() -> None:
    check_measures(MeasureConfig(names=tuple(MEASURES)), summary_of((8, 8, 1)))
    check_measures(MeasureConfig(names=("gradients", "confusion", "cka")), summary_of((40, 1)))


def test_transformations_are_pieces_of_their_own_and_may_be_added(study: Study, digits: Dataset) -> None:
    data = next(iter(study.experiment.arms.values())).data
    asked = with_measures(study, names=("accuracy", "confusion"), images=20, magnitudes=3)
    measure_study(asked, {data: digits}, Console(quiet=True))
    unit = study.units[0]
    assert {path.name for path in (unit.folder / "measures").iterdir()} == {
        "accuracy_translation.json",
        "confusion.json",
        "confusion.npz",
    }
    more = MeasureConfig(
        names=("accuracy", "confusion", "robustness"),
        transformations=("translation", "blur"),
        images=20,
        magnitudes=3,
        epsilons=(0.5,),
        batch_size=7,
    )
    assert unmeasured(unit, more, ALONE) == ["accuracy_blur", "robustness"]
    with pytest.raises(RequestError, match=r"magnitudes: .*accuracy_translation\.json was measured with 3, not 5"):
        unmeasured(unit, dataclasses.replace(more, magnitudes=5), ALONE)


def test_gradients_of_old_runs_are_measured_at_their_start_too(
    study: Study, digits: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    data = next(iter(study.experiment.arms.values())).data
    measure_study(with_measures(study, names=("gradients",), images=40), {data: digits}, Console())
    assert "along training they are measured only while a run trains" in " ".join(capsys.readouterr().out.split())
    unit = study.units[1]
    assert {row["split"] for row in read_findings(unit)} == {"train"}
    found = {(row["metric"], row["stage"]): row["value"] for row in read_findings(unit)}
    begun = assemble(study.experiment.arms[unit.arm], digits, unit.seed, Shared(), Interruption())
    values = {**begun.inputs.frozen[0], **begun.state.trained}
    run = load(unit.folder)
    start = dataclasses.replace(run.subject, variables=variables_of(jax.device_get(values), {}))
    train = digits.train
    key = jax.random.key(unit.seed)
    for expected in gradient_norms(start, train.images[:40], train.labels[:40], key=key, batch_size=250):
        np.testing.assert_allclose(found[f"{expected.metric}_at_start", expected.stage], expected.value, rtol=1e-4)
    after = {stage: value for (metric, stage), value in found.items() if metric == "gradient_norm"}
    assert len(after) == 2
    assert all(found["gradient_norm_at_start", stage] != value for stage, value in after.items())


@pytest.mark.slow
def test_gradients_at_the_start_need_the_sources_of_the_filters(study: Study, digits: Dataset, tmp_path: Path) -> None:
    unit = study.units[0]
    about = json.loads((unit.folder / "config.json").read_text())
    about["config"]["filters"] = [{"pattern": ".*", "source": f"checkpoint:{tmp_path / 'gone'}", "state": "trained"}]
    (unit.folder / "config.json").write_text(json.dumps(about))
    data = next(iter(study.experiment.arms.values())).data
    asked = with_measures(study, names=("gradients",), images=20)
    console = Console(file=io.StringIO())
    measure_study(dataclasses.replace(asked, seeds=1), {data: digits}, console)
    assert "gradients without those at the start: there is no run in" in console.file.getvalue()  # type: ignore[attr-defined]
    assert {row["metric"] for row in read_findings(unit)} == {"gradient_norm", "output_gradient_norm"}


def test_settings_of_a_transformation_are_a_piece_of_their_own() -> None:
    names = ("translation(border=zeros)", "translation")
    asked = MeasureConfig(names=("lie_derivative", "confusion"), transformations=names)
    check_measures(asked, summary_of((8, 8, 1)))
    assert list(pieces(asked)) == [
        "lie_derivative_translation(border=zeros)",
        "lie_derivative_translation",
        "confusion",
    ]


def test_run_that_asks_for_what_is_measured_otherwise_writes_nothing(
    study: Study, digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = next(iter(study.experiment.arms.values())).data
    measure_study(with_measures(study, names=("confusion",), images=40), {data: digits}, Console(quiet=True))
    before = (study.folder / "study.json").read_text()
    experiment = tmp_path / "tiny.py"
    experiment.write_text(
        '"""Do filters have to be learned?"""\n'
        "import dataclasses\nfrom etils import epath\nfrom cnnjax.study.workdir import read_study\n"
        f"study = read_study(epath.Path({str(study.folder)!r})).experiment\n"
        "def get_config():\n    return study.arms['learned']\n"
        "def arms():\n    return {'learned': {}, 'gaussian': {'filters': study.arms['gaussian'].filters}}\n"
    )
    asked = ("--config.measures.names=confusion", "--config.measures.images=50")
    assert main(["launch.py", f"--config={experiment}", f"--workdir={study.folder}", *asked]) == WRONG_REQUEST
    assert "was measured with 40, not 50" in capsys.readouterr().err
    assert (study.folder / "study.json").read_text() == before
    fewer = ("--config.measures.names=confusion,activity", "--config.measures.images=40")
    assert main(["launch.py", f"--config={experiment}", f"--workdir={study.folder}", *fewer]) == OK
    assert "measuring activity" in capsys.readouterr().out  # though all runs had finished and were reported


def test_runs_of_other_data_are_not_compared(study: Study, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def record(occasion: Occasion) -> Measured:
        seen[f"{occasion.arm} {len(seen)}"] = (set(occasion.arms), set(occasion.others))
        return Measured([])

    monkeypatch.setitem(MEASURES, "activity", record)
    asked = with_measures(study, names=("activity",))
    config = json.loads((study.units[1].folder / "config.json").read_text())
    config["dataset"]["high"] = 1.0
    data = next(iter(study.experiment.arms.values())).data
    (study.units[1].folder / "config.json").write_text(json.dumps(config))
    measure_study(asked, {data: digits}, Console(quiet=True))
    assert study.units[1].arm == "gaussian" and study.units[1].seed == 0
    assert seen == {
        "learned 0": (set(), {"next seed"}),
        "gaussian 1": (set(), set()),
        "learned 2": ({"gaussian"}, set()),
        "gaussian 3": ({"learned"}, {"learned"}),
    }


def test_runs_of_the_same_shape_with_other_images_are_not_compared(study: Study) -> None:
    arms = study.experiment.arms
    for change, alike in (({"shuffled": True}, set()), ({"classes": (1, 2)}, set()), ({"examples": 50}, {"gaussian"})):
        data = dataclasses.replace(arms["gaussian"].data, **change)
        changed = {**arms, "gaussian": dataclasses.replace(arms["gaussian"], data=data)}
        other = dataclasses.replace(study, experiment=dataclasses.replace(study.experiment, arms=changed))
        assert set(relatives(study.units[0], other, finished_runs(other)).arms) == alike


def test_runs_that_finish_later_are_compared_too(
    study: Study, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(occasion: Occasion) -> Measured:
        names = [*occasion.arms, *occasion.others]
        return Measured([Finding(f"with {name}", 1.0) for name in names], {"names": np.array(names)})

    monkeypatch.setitem(MEASURES, "transfer", record)
    monkeypatch.setitem(MEASURES, "cka", record)
    asked = with_measures(study, names=("transfer", "cka"))
    data = next(iter(study.experiment.arms.values())).data
    learned = {"learned": asked.experiment.arms["learned"]}
    first = dataclasses.replace(asked, seeds=1, experiment=dataclasses.replace(asked.experiment, arms=learned))

    def found(part: Study) -> list[tuple[str, int, str]]:
        console = Console(file=io.StringIO(), width=200)
        measure_study(part, {data: digits}, console)
        return [line.split(" (")[0] + line.split("measuring")[1] for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]

    assert found(first) == ["learned seed 0 transfer", "learned seed 0 cka"]
    assert read_findings(study.units[0]) == []
    arms = dataclasses.replace(asked, seeds=1)
    assert found(arms) == ["learned seed 0 transfer", "gaussian seed 0 transfer", "gaussian seed 0 cka"]
    file = study.units[0].folder / "measures" / "cka.json"
    before = file.read_text()
    monkeypatch.setitem(MEASURES, "cka", lambda _: (_ for _ in ()).throw(ValueError("no")))
    with pytest.raises(RequestError, match=r"cka of .*learned/seed0: no"):
        measure_study(asked, {data: digits}, Console(quiet=True))
    assert file.read_text() == before
    monkeypatch.setitem(MEASURES, "cka", record)
    seeds = [
        f"{arm} seed {seed} {name}"
        for seed, arm, name in itertools.product((0, 1), ("learned", "gaussian"), ("transfer", "cka"))
    ]
    assert found(asked) == [line for line in seeds if "seed 1" in line or "cka" in line]
    assert found(asked) == []
    assert {row["metric"] for row in read_findings(study.units[0])} == {"with gaussian", "with next seed"}
    assert sorted(read_arrays(study.units[1])["cka/names"]) == ["learned", "learned", "next seed"]


def test_measures_may_be_added_to_a_study(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(measuring, "measure_unit", lambda unit, *_: taken.append((unit.arm, unit.seed)))
    asked = with_measures(study, names=("activity",))
    write_study(asked)
    measure_study(read_study(study.folder), {}, Console(quiet=True))
    assert taken == [("learned", 0), ("gaussian", 0), ("learned", 1), ("gaussian", 1)]
    assert json.loads((study.folder / "study.json").read_text())["arms"]["learned"]["measures"]["names"] == ["activity"]
