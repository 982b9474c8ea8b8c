"""A sweep from the command line, trained: what it leaves, what it refuses, and that it goes on where it was."""

import json
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from etils import epath

import cnnjax
from cnnjax.study.request import OK, SOME_FAILED, WRONG_REQUEST
from cnnjax.study.workdir import read_study
from launch import main
from tests.launching import EXPERIMENT, ROOT, launch, outcome, start
from tests.planted_runs import PlantedRuns, arms_tested, plant

FLAGS = ("--arms=learned", "--config.model.name=logistic", "--config.data.augment=", "--config.train.epochs=1")
SWEEP = ("--sweep=optim.lr=1e-6,0.1",)


def ask(workdir: Path, *flags: str) -> int:
    return main(["launch.py", f"--config={ROOT / EXPERIMENT}", f"--workdir={workdir}", *FLAGS, *flags])


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials."""
    folder = tmp_path_factory.mktemp("sweep") / "study"
    assert ask(folder, *SWEEP) == OK
    return folder


def written(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_best_trial_alone_is_tested(workdir: Path) -> None:
    table = pd.read_csv(workdir / "trials.csv")
    assert table.trial.tolist() == ["learned,lr=0.1", "learned,lr=1e-6"]
    assert table.validation[0] > table.validation[1]
    assert arms_tested(workdir) == ["learned,lr=0.1"]
    results = pd.read_csv(workdir / "results.csv")
    assert set(results[results.split == "test"].arm) == {"learned,lr=0.1"}
    assert set(results.arm) == set(table.trial)
    run = cnnjax.load_study(workdir).run("learned,lr=0.1", 0)
    assert run.config.optim.lr == 0.1 and run.status["metrics"]["test"]["accuracy"] > 0.5


def test_again_nothing_is_trained(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = written(workdir)
    assert ask(workdir, *SWEEP) == OK
    assert written(workdir) == before
    said = capsys.readouterr().out
    assert "runs to do" not in said and "learned, best of 2 trials: learned,lr=0.1" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "holds a sweep; give its flags again (--sweep=optim.lr=1e-6,0.1 --search=grid)"),
        (("--sweep=optim.lr=1e-6,0.2",), "holds another sweep (--sweep=optim.lr=1e-6,0.1 --search=grid)"),
        ((*SWEEP, "--trials=2"), "holds another sweep"),
        ((*SWEEP, "--seeds=2"), "holds a sweep of learned with 1 seed; ask for the same"),
        ((*SWEEP, "--arms=learned,frozen"), "holds another sweep"),
        ((*SWEEP, "--config.optim.momentum=0"), "(arm learned: optim.momentum was 0.9 and is now 0.0)"),
    ],
)
def test_another_request_is_refused(
    workdir: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    before = written(workdir)
    assert ask(workdir, *flags) == WRONG_REQUEST
    said = capsys.readouterr().err
    assert message in said and len(said.strip().splitlines()) == 1
    assert written(workdir) == before


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (("--dry_run",), OK),
        (("--config.train.batch_size=5000",), WRONG_REQUEST),
        (("--config.data.name=digits_8x9",), WRONG_REQUEST),
    ],
)
def test_storage_is_not_made_before_all_is_checked(tmp_path: Path, flags: tuple[str, ...], status: int) -> None:
    swept = ("--sweep=optim.lr=log:1e-4:1", "--search=tpe", "--trials=4", f"--storage=sqlite:///{tmp_path}/trials.db")
    assert ask(tmp_path / "w", *swept, *flags) == status
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_sweep_with_a_trial_that_cannot_be_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, PlantedRuns())
    flags = ("--sweep=train.accumulate=int:1:8", "--search=tpe", "--trials=8")
    for _ in range(2):
        assert ask(tmp_path / "w", *flags) == SOME_FAILED
    statuses = [json.loads(path.read_text()) for path in (tmp_path / "w").glob("runs/*/seed0/status.json")]
    states = [status["state"] for status in statuses]
    assert set(states) == {"finished", "failed"}
    assert all("do not divide a batch of 32" in status["error"] for status in statuses if status["state"] == "failed")


@pytest.mark.slow
def test_best_head_that_is_found_at_once_alone_is_tested(tmp_path: Path) -> None:
    assert ask(tmp_path / "w", "--config.head.name=ridge", "--sweep=head.strengths=1e-3,100") == OK
    table = pd.read_csv(tmp_path / "w" / "trials.csv")
    assert arms_tested(tmp_path / "w") == [table.trial[0]] and table.validation[0] > table.validation[1]


@pytest.mark.slow
def test_report_is_made_anew(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch.py", f"--workdir={workdir}", "--mode=report"]) == OK
    assert "learned, best of 2 trials: learned,lr=0.1" in capsys.readouterr().out


@pytest.mark.slow
def test_measures_are_of_the_best_trial(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = ["--mode=measure", "--config.measures.names=accuracy", "--config.measures.transformations=rotation"]
    assert main(["launch.py", f"--workdir={workdir}", *measured, "--config.measures.magnitudes=3"]) == OK
    assert [path.parts[-4] for path in workdir.glob("runs/*/seed0/measures/*.json")] == ["learned,lr=0.1"]


@pytest.mark.slow
def test_launchers_share_a_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--sweep=optim.lr=log:1e-4:1", "--search=tpe", "--trials=4", "--config.study.slots=2")
    here, there, shared = tmp_path / "here", tmp_path / "there", f"--storage=sqlite:///{tmp_path}/trials.db"
    monkeypatch.setattr("cnnjax.train.interruption.leave", lambda number: sys.exit(number))
    plant(monkeypatch, PlantedRuns(stop_after=1))
    with pytest.raises(SystemExit):
        ask(here, *flags, shared)
    plant(monkeypatch, PlantedRuns(lambda config, epoch: 0.01))
    assert ask(there, *flags, shared) == OK
    assert arms_tested(there) == []
    plant(monkeypatch, PlantedRuns())
    assert ask(here, *flags, shared) == OK
    assert ask(there, *flags, shared) == OK
    assert (len(arms_tested(here)), arms_tested(there)) == (1, [])
    assert [len(read_study(epath.Path(folder)).sweep.trials) for folder in (here, there)] == [2, 2]  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--search=halving", "--trials=4", "--config.study.slots=2", "--config.study.eta=2"),
        ("--search=tpe", "--trials=4", "--config.study.slots=2"),
    ],
)
def test_killed_sweep_ends_as_one_that_was_not(tmp_path: Path, flags: tuple[str, ...]) -> None:
    given = ("--arms=learned", "--config.model.name=logistic", "--sweep=optim.lr=log:1e-4:1", *flags)
    killed, untouched = tmp_path / "killed", tmp_path / "untouched"
    for number, kind in enumerate((signal.SIGKILL, signal.SIGTERM)):
        process = start(killed, *given)
        while len(list(killed.glob("runs/*/seed0/checkpoints"))) <= number and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(kind)
        process.communicate()
    ran = launch(killed, *given)
    assert ran.returncode == OK, ran.stderr
    assert launch(untouched, *given).returncode == OK
    assert read_study(epath.Path(killed)).sweep == read_study(epath.Path(untouched)).sweep
    (best,) = arms_tested(untouched)
    assert arms_tested(killed) == [best]
    for path in untouched.glob("runs/*/seed0/status.json"):
        states = [json.loads((folder / path.relative_to(untouched)).read_text()) for folder in (killed, untouched)]
        assert states[0]["metrics"] == states[1]["metrics"] and states[0]["step"] == states[1]["step"]
    assert outcome(killed, best) == outcome(untouched, best)
