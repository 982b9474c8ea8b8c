"""A wrong request is answered by one line and status 2, and nothing is written."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from cnnjax.config import Config, DataConfig
from cnnjax.data.dataset import Dataset
from cnnjax.study.packs import Pack
from cnnjax.study.request import OK
from cnnjax.study.workdir import Study, Unit, claim
from cnnjax.train.assembly import make_member
from launch import main
from tests.launching import EXPERIMENT, ROOT, command, environment, launch

WRONG = {
    "flag": (["--sedes=2"], "--sedes: no such flag; did you mean 'seeds'?"),
    "flag_value": (["--seeds=0"], "--seeds=0: 0 is not a positive integer"),
    "newline": (["--mode=a\nb"], "--mode=a b: value should be one of <run|describe|measure|report>"),
    "mode": (["--mode=rn"], "--mode=rn: value should be one of <run|describe|measure|report>"),
    "stray_argument": (["learned"], "'learned': not a flag; flags read --NAME=VALUE"),
    "field": (["--config.optim.lrr=0.1"], "config.optim.lrr: no such field; did you mean 'lr'?"),
    "section": (["--config.optim=sgd"], "config.optim: a section, not a field; its fields are: name, lr,"),
    "type": (["--config.train.batch_size=many"], "config.train.batch_size: should be a valid integer"),
    "range": (["--config.optim.lr=-1"], "config.optim.lr: should be greater than 0; given '-1'"),
    "choice": (
        ["--config.optim.name=sdg"],
        "config.optim.name: should be 'sgd', 'adam' or 'adamw'; given 'sdg'",
    ),
    "data": (
        ["--config.data.name=digits_8x9"],
        "config.data.name: unknown data set 'digits_8x9'; did you mean",
    ),
    "unprepared_data": (["--config.data.name=cifar10"], "config.data.name: cifar10 is not prepared in"),
    "model": (
        ["--config.model.name=convnt"],
        "config.model: unknown model 'convnt'; did you mean 'convnet'?",
    ),
    "model_field": (
        ["--config.model.name=lenet5", "--config.model.depth=3"],
        "config.model: model lenet5 has no field 'depth'; did you mean 'width'?",
    ),
    "arm": (["--arms=lerned"], "--arms: unknown arm 'lerned'; did you mean 'learned'?"),
    "baseline": (
        ["--config.study.baseline=frzen"],
        "config.study.baseline: unknown arm 'frzen'; did you mean 'frozen'?",
    ),
    "shape": (
        ["--mode=describe", "--shape=224,x"],
        "--shape: give the sizes and the channels of an image, as 224,224,3; not 224,x",
    ),
    "sweep": (
        ["--sweep=optim.lr=log:1"],
        "--sweep=optim.lr=log:1: a range has two ends, and perhaps a number of values; VALUES read 16,32 or log:1e-3:1",
    ),
    "sweep_of_an_arm": (["--sweep=lerned/optim.lr=1,2"], "unknown arm 'lerned'; did you mean 'learned'?"),
    "sweep_without_trials": (["--sweep=optim.lr=log:0.1:1"], "or how many --trials are drawn at random"),
    "sweep_on_the_data": (
        ["--sweep=train.batch_size=32,5000", "--arms=learned"],
        "config.train.batch_size: 5000 is more than the 1258 training",
    ),
    "sweep_asked_for_later": (
        ["--sweep=train.batch_size=int:32:5000", "--arms=learned", "--search=tpe", "--trials=2"],
        "config.train.batch_size: 5000 is more than the 1258 training",
    ),
    "storage": (
        ["--sweep=optim.lr=log:0.1:1", "--search=tpe", "--trials=2", "--storage=x"],
        "--storage=x: Optuna cannot open it",
    ),
    "dry_run_of_a_measure": (["--mode=measure", "--dry_run"], "--dry_run: --mode=measure trains nothing; leave it out"),
    "dry_run_of_a_report": (["--mode=report", "--dry_run"], "--dry_run: --mode=report trains nothing; leave it out"),
    "profile_of_a_measure": (["--mode=measure", "--profile"], "--profile: --mode=measure trains nothing; leave it out"),
    "trials": (["--trials=3"], "--trials=3: nothing is swept; give --sweep=FIELD=VALUES too"),
    "processes": (["--processes=2"], "--processes: needs --coordinator=HOST:PORT"),
    "engine": (["--engine=rya"], "--engine=rya: value should be one of <local|ray>"),
    "gpus": (["--gpus=1"], "--gpus: needs --engine=ray"),
    "cluster_of_hosts": (
        ["--engine=ray", "--coordinator=auto"],
        "--engine=ray: trains each run on one node; leave --coordinator out",
    ),
    "plan": (
        ["--config.filters=head=init,trained", "--arms=learned"],
        "config.filters: 'head' matches none of",
    ),
    "source": (
        ["--config.filters=.*=gausian,trained", "--arms=learned"],
        "unknown source of filters 'gausian'",
    ),
    "validation": (
        ["--config.data.name=mnist1d", "--config.data.validation=1e-6"],
        "config.data.validation: 1e-06 of 4000 training examples leaves the validation split empty",
    ),
    "batch": (
        ["--config.train.batch_size=5000"],
        "config.train.batch_size: 5000 is more than the 1258 training",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_request(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags, line = WRONG[name]
    assert ask(tmp_path / "study", *flags) == 2
    said = capsys.readouterr().err
    assert line in said and len(said.strip().splitlines()) == 1
    assert not (tmp_path / "study").exists()


def ask(workdir: Path, *flags: str, config: str = EXPERIMENT) -> int:
    """`launch.py` in this process."""
    return main(["launch.py", f"--config={ROOT / config}", f"--workdir={workdir}", *flags])


def test_missing_experiment_gives_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(tmp_path / "study", config="experiments/random_filter.py") == 2
    said = capsys.readouterr().err
    assert "there is no file" in said and "experiments/random_filters.py'?" in said


def test_foreign_and_unreadable_workdirs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    assert ask(tmp_path) == 2
    assert "is not empty and holds no study (thesis.tex, ...)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert ask(tmp_path / "thesis.tex") == 2
    assert "is a file; give a folder" in capsys.readouterr().err
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "study.json").write_text("{")
    assert ask(broken) == 2
    assert "study.json is not what cnnjax wrote" in capsys.readouterr().err
    assert (broken / "study.json").read_text() == "{"


def test_workdir_of_another_config_says_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workdir, flags = tmp_path / "study", ("--arms=learned", "--config.model.name=logistic", "--config.train.epochs=1")
    assert ask(workdir, *flags) == OK
    before = (workdir / "study.json").read_text()
    assert ask(workdir, *flags, "--config.optim.lr=0.3") == 2
    assert "(arm learned: optim.lr was 0.05 and is now 0.3)" in capsys.readouterr().err
    assert (workdir / "study.json").read_text() == before
    assert ask(workdir, "--mode=report") == OK
    assert "learned" in capsys.readouterr().out


def test_describe_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(tmp_path / "study", "--mode=describe") == OK
    said = capsys.readouterr().out
    assert "stage1" in said and "receptive field" in said and "total" in said
    assert not (tmp_path / "study").exists()


def test_describe_takes_images_of_any_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnjax.data.streamed.open_dataset", lambda config: pytest.fail("no data set is needed"))
    network = [f"--config.model.{field}" for field in ("name=resnet18", "width=64", "kernel_size=none", "norm=batch")]
    given = ["--mode=describe", "--arms=learned", "--shape=224,224,3", "--config.model.dropout=none"]
    assert ask(tmp_path / "study", *given, *network) == OK
    said = capsys.readouterr().out
    assert "resnet18 on images (224, 224, 3)" in said and "11,689,512" in said


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        ("stage1/.*=he,frozen", "no rule covers"),
        ("stage1/.*=kmean,frozen;head/.*=init,trained", "unknown source of filters 'kmean'"),
        ("stage1/.*=zca,frozen;head/.*=init,trained", "stage1/conv/kernel: zca cannot give 4 filters"),
    ],
)
def test_describe_refuses_a_plan_that_cannot_be_run(
    plan: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(tmp_path / "study", "--mode=describe", "--arms=learned", f"--config.filters={plan}") == 2
    said = capsys.readouterr().err
    assert problem in said and len(said.splitlines()) == 1


@pytest.mark.slow
def test_diverged_run_is_named_and_the_rest_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = tmp_path / "diverging.py"
    experiment.write_text(
        '"""Does it diverge?"""\n'
        "from tests.tiny_experiment import arms as both, get_config\n"
        "def arms():\n"
        "    return {'wild': {'optim.lr': 1e30, 'model.norm': 'none'}, 'tame': both()['frozen']}\n"
    )
    workdir = tmp_path / "study"
    assert ask(workdir, "--config.train.epochs=1", config=str(experiment)) == 1
    assert "wild seed 0 diverged: the loss was" in capsys.readouterr().out
    assert state_of(workdir, "wild") == "diverged" and state_of(workdir, "tame") == "finished"
    assert "wild seed 0 diverged" in (workdir / "report.html").read_text()


@pytest.mark.slow
def test_failed_run_is_named_and_the_rest_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_in_learned(config: Config, *arguments: Any, **keywords: Any) -> Any:
        if config.filters[0].pattern == ".*":
            raise MemoryError("no room for the network")
        return make_member(config, *arguments, **keywords)

    monkeypatch.setattr("cnnjax.study.run.make_member", fail_in_learned)
    workdir = tmp_path / "study"
    assert ask(workdir, "--config.train.epochs=1") == 1
    assert "learned seed 0 failed: MemoryError: no room for the network" in capsys.readouterr().out
    assert state_of(workdir, "learned") == "failed" and state_of(workdir, "frozen") == "finished"
    monkeypatch.undo()
    assert ask(workdir, "--config.train.epochs=1") == OK
    assert state_of(workdir, "learned") == "finished"


def state_of(workdir: Path, arm: str) -> str:
    """What the status of the arm's first run says."""
    return json.loads((workdir / "runs" / arm / "seed0" / "status.json").read_text())["state"]


def test_arms_and_seeds_that_are_asked_for_alone_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def finish(pack: Pack, *_: Any) -> dict[Unit, str]:
        for unit in pack.units:
            ran.append(f"{unit.arm}{unit.seed}")
            unit.folder.mkdir(parents=True)
            (unit.folder / "status.json").write_text(json.dumps({"state": "diverged", "error": "nan"}))
        return dict.fromkeys(pack.units, "diverged")

    monkeypatch.setattr("cnnjax.study.runner.run_pack", finish)
    workdir = tmp_path / "study"
    assert ask(workdir, "--arms=learned") == 1
    assert ask(workdir, "--arms=frozen", "--seeds=3") == 1
    assert ran == ["learned0", "frozen0", "frozen1", "frozen2"]
    ran.clear()
    assert ask(workdir, "--seeds=2") == 1
    assert ran == ["learned1"]
    ran.clear()
    assert ask(workdir, "--arms=frozen", "--config.study.seeds=1") == 1
    assert ran == []
    assert ask(workdir) == 1
    assert ran == ["learned2"]


@pytest.mark.slow
def test_report_is_made_where_the_last_call_was_killed_before_it(
    finished_study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir, experiment = tmp_path / "study", tmp_path / "tiny.py"
    shutil.copytree(finished_study.folder, workdir)
    experiment.write_text(
        '"""Do filters have to be learned?"""\n'
        "from etils import epath\nfrom cnnjax.study.workdir import read_study\n"
        f"study = read_study(epath.Path({str(workdir)!r})).experiment\n"
        "def get_config():\n    return study.arms['learned']\n"
        "def arms():\n    return {'learned': {}, 'gaussian': {'filters': study.arms['gaussian'].filters}}\n"
    )
    report, results = workdir / "report.html", workdir / "results.csv"
    report.write_text("of fewer seeds")
    assert ask(workdir, config=str(experiment)) == OK  # conftest's study does not say that it is reported
    assert "of fewer seeds" not in report.read_text()
    results.unlink()
    assert ask(workdir, config=str(experiment)) == OK
    made = report.stat().st_mtime_ns
    assert results.exists()
    assert ask(workdir, config=str(experiment)) == OK
    assert report.stat().st_mtime_ns == made
    assert "difference to learned" in report.read_text()
    assert ask(workdir, "--config.study.baseline=gaussian", config=str(experiment)) == OK
    assert "difference to gaussian" in report.read_text()
    capsys.readouterr()
    assert ask(workdir, "--mode=report", config=str(experiment)) == OK
    assert "to gaussian" in capsys.readouterr().out


def test_full_disk_while_data_are_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: DataConfig) -> None:
        raise RuntimeError("Failed to construct dataset\n[Errno 28] No space left on device: 'shard'")

    monkeypatch.setattr("cnnjax.study.runner.open_dataset", fail)
    assert ask(tmp_path / "study") == 1
    said = capsys.readouterr().err
    assert said == "the disk is full: Failed to construct dataset [Errno 28] No space left on device: 'shard'\n"
    assert not (tmp_path / "study").exists()


def test_workdir_that_another_process_trains_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workdir = tmp_path / "study"
    with claim(epath.Path(workdir)):
        assert ask(workdir) == 2
        assert capsys.readouterr().err == f"--workdir: another process trains in {workdir}; wait until it ends\n"
        assert [path.name for path in workdir.iterdir()] == [".lock"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_full_disk_is_one_line_and_what_is_done_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workdir = tmp_path / "study"
    flags = ("--arms=learned", "--config.model.name=logistic", "--config.train.epochs=1")
    assert ask(workdir, *flags) == OK
    results = (workdir / "results.csv").read_text()
    folder = workdir / "runs" / "learned" / "seed1"
    folder.mkdir(parents=True)
    (folder / ".status.json.partial").symlink_to("/dev/full")
    capsys.readouterr()
    assert ask(workdir, "--seeds=2", *flags) == 1
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1 and "the disk is full" in said
    assert (workdir / "results.csv").read_text() == results
    (folder / ".status.json.partial").unlink()
    assert ask(workdir, "--seeds=2", *flags) == OK


# A failed write, after which TensorStore answers an event loop that is closed.
FULL = """
import runpy, sys
from cnnjax.train.checkpoint import Checkpoints

class Late:
    def __del__(self):
        raise RuntimeError("Event loop is closed")

def save(self, *arguments):
    Late()
    try:
        raise OSError(28, "No space left on device")
    except OSError as error:
        raise ValueError("not\\nsaved") from error

Checkpoints.save = save
sys.argv = sys.argv[1:]
runpy.run_path("launch.py", run_name="__main__")
"""


@pytest.mark.slow
def test_full_disk_in_a_checkpoint_is_one_line(tmp_path: Path, digits: Dataset) -> None:
    words = command(tmp_path / "study", "--arms=learned", "--config.model.name=logistic", "--config.train.epochs=1")
    words[1:1] = ["-c", FULL]
    ran = subprocess.run(words, cwd=ROOT, env=environment(1), capture_output=True, text=True)
    assert ran.returncode == 1
    told, line = ran.stderr.splitlines()
    assert "are trained" in told and "learned/seed0 cannot be written" in line


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
@pytest.mark.parametrize("size", ["80k", "300k"])
def test_real_full_disk_is_one_line(tmp_path: Path, digits: Dataset, size: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", tmp_path], check=True)
    try:
        for _ in range(2):
            ran = launch(tmp_path / "study", "--config.model.width=32")
            assert ran.returncode == 1
            *told, line = ran.stderr.splitlines()
            assert "the disk is full" in line
            assert [line for line in told if "going on from" not in line and "are trained" not in line] == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)
