"""Running the units of a study: what is done once, and what one failure leaves to the others."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from etils import epath
from rich.console import Console

from cnnjax.config import Config, DataConfig, ModelConfig, RequestError, StudyConfig, TrainConfig, override
from cnnjax.data.dataset import Dataset
from cnnjax.study import runner
from cnnjax.study.experiment import Experiment
from cnnjax.study.files import DiskFull
from cnnjax.study.packs import Pack
from cnnjax.study.runner import run_study, unfinished
from cnnjax.study.workdir import Study, Unit, read_status
from cnnjax.train.interruption import Interruption, Stopped


def study_of(folder: Path, *arms: str) -> Study:
    return Study(epath.Path(folder), Experiment("question", "Why?", dict.fromkeys(arms, Config())), 1)


def run(study: Study, digits: Dataset, interruption: Interruption) -> str:
    """What the study prints."""
    text = io.StringIO()
    console = Console(file=text, width=200)
    run_study(study, unfinished(study), {DataConfig(): digits}, console, interruption)
    return text.getvalue()


def test_finished_study_has_nothing_to_do(finished_study: Study) -> None:
    assert unfinished(finished_study) == []
    assert {read_status(unit)["state"] for unit in finished_study.units} == {"finished"}


@pytest.mark.parametrize(
    ("state", "again"), [("finished", False), ("diverged", False), ("failed", True), ("running", True), (None, True)]
)
def test_what_is_run_again(tmp_path: Path, state: str | None, again: bool) -> None:
    study = study_of(tmp_path, "only")
    if state:
        study.units[0].folder.mkdir(parents=True)
        names = ("metrics", "parameters", "parameters_trained", "features", "best_step", "seconds", "error")
        (study.units[0].folder / "status.json").write_text(json.dumps({"state": state, **dict.fromkeys(names)}))
    assert unfinished(study) == (study.units if again else [])


def test_failed_and_diverged_runs_are_marked_and_the_others_go_on(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms, done = ("fails", "diverges", "works"), []

    def run_pack(pack: Pack, *arguments: Any) -> dict[Unit, str]:
        (unit,) = pack.units
        unit.folder.mkdir(parents=True)
        if unit.arm == "fails":
            raise ValueError("no\nmore")
        done.append(unit.arm)
        return {unit: "diverged" if unit.arm == "diverges" else "finished"}

    monkeypatch.setattr(runner, "run_pack", run_pack)
    study = study_of(tmp_path, *arms)
    printed = run(study, digits, Interruption())
    assert done == ["diverges", "works"]
    fails = read_status(study.units[0])
    assert (fails["state"], fails["error"]) == ("failed", "ValueError: no")
    assert Path(__file__).name in fails["where"]
    assert "fails seed 0: failed (ValueError: no) in" in printed
    assert "diverges seed 0: diverged in" in printed


def test_runs_that_fail_together_are_run_alone(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def run_pack(pack: Pack, *arguments: Any) -> dict[Unit, str]:
        tried.append(([unit.seed for unit in pack.units], pack.form))
        if len(pack.units) > 1 or pack.units[0].seed == 1:
            pack.units[0].folder.mkdir(parents=True, exist_ok=True)
            raise MemoryError("too much")
        return dict.fromkeys(pack.units, "finished")

    monkeypatch.setattr(runner, "run_pack", run_pack)
    config = override(Config(), {"study.pack": 3})
    study = Study(epath.Path(tmp_path), Experiment("question", "Why?", {"only": config}), 3)
    printed = run(study, digits, Interruption())
    assert tried == [([0, 1, 2], "map"), ([0], None), ([1], None), ([2], None)]
    assert [outcome in printed for outcome in ("seed 0: finished", "seed 1: failed", "seed 2: finished")] == [True] * 3


def test_first_run_of_each_arm_says_what_is_trained(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "run_pack", lambda pack, *arguments: dict.fromkeys(pack.units, "finished"))
    model = ModelConfig(name="convnet", width=2, depth=1, kernel_size=3, norm="batch")
    plans = {
        "learned": ".*=init,trained",
        "frozen": "stage1/conv/.*=gaussian,frozen;stage1/norm/.*=init,frozen;head/.*=init,trained",
        "combined": ".*/conv/kernel=he,frozen,3;(.*norm|head)/.*=init,trained",
    }
    arms = {
        name: override(Config(model=model, study=StudyConfig(pack=1)), {"filters": plan})
        for name, plan in plans.items()
    }
    study = Study(epath.Path(tmp_path), Experiment("question", "Why?", arms), 2)
    with caplog.at_level("INFO", logger="cnnjax"):
        run(study, digits, Interruption())
    # A kernel of 18, a norm of 4, a head of 32 * 10 + 10; and 3 times the kernel with a matrix of 6 x 2.
    assert caplog.messages == [
        "learned: 352 of 352 parameters are trained",
        "frozen: 330 of 352 parameters are trained; frozen: stage1/conv/.* (gaussian), stage1/norm/.* (init)",
        "combined: 346 of 400 parameters are trained; combined: .*/conv/kernel (3 times as many frozen filters, he)",
    ]


def test_full_disk_ends_the_study(tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_pack(pack: Pack, *arguments: Any) -> dict[Unit, str]:
        raise RuntimeError("not saved") from OSError(28, "No space left on device")

    monkeypatch.setattr(runner, "run_pack", run_pack)
    with pytest.raises(DiskFull, match=r"the disk is full: .*seed0 cannot be written"):
        run(study_of(tmp_path, "first", "second"), digits, Interruption())


def test_signal_between_runs_stops_the_study(tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    interruption, begun = Interruption(), []

    def run_pack(pack: Pack, *arguments: Any) -> dict[Unit, str]:
        begun.extend(unit.arm for unit in pack.units)
        interruption.receive(15)
        return dict.fromkeys(pack.units, "finished")

    monkeypatch.setattr(runner, "run_pack", run_pack)
    with pytest.raises(Stopped):
        run(study_of(tmp_path, "first", "second"), digits, interruption)
    assert begun == ["first"]


def test_batch_larger_than_the_data_is_refused_before_anything_is_written(tmp_path: Path, data_dir: str) -> None:
    config = Config(data=DataConfig(name="digits_8x8", dir=data_dir), train=TrainConfig(batch_size=2000))
    study = Study(epath.Path(tmp_path), Experiment("question", "Why?", {"only": config}), 1)
    with pytest.raises(RequestError, match="batch_size"):
        runner.load_datasets(study, study.units)
    assert not list(tmp_path.iterdir())
