"""A run that is killed at any instant and started again ends as one that was never touched."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.launching import launch, outcome, start

FOLDER = Path("runs") / "learned" / "seed0"


def in_compilation(workdir: Path) -> bool:
    """The run has begun, and nothing of it is saved: between the two lies the compiler."""
    return (workdir / FOLDER / "status.json").exists()


def in_a_chunk(workdir: Path) -> bool:
    """Metrics have come, so the chunk behind them runs."""
    metrics = workdir / FOLDER / "metrics.jsonl"
    return metrics.exists() and metrics.stat().st_size > 0


def in_a_save(workdir: Path) -> bool:
    """A checkpoint is half written, and there is one before it."""
    checkpoints = workdir / FOLDER / "checkpoints"
    whole = any(path.name.isdigit() for path in checkpoints.glob("*"))
    return whole and any("tmp" in path.name for path in checkpoints.glob("*"))


def in_another_arm(workdir: Path) -> bool:
    """The first run has finished and the second one begun."""
    return (workdir / "runs" / "frozen" / "seed0" / "checkpoints").exists()


def wait_for(instant: Callable[[Path], bool], workdir: Path, process: subprocess.Popen[str]) -> None:
    """Until the instant has come; the process must not end before."""
    while not instant(workdir):
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the study ends with when nothing happens to it."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "study"
    finished = launch(workdir)
    assert finished.returncode == 0, finished.stderr
    return {arm: outcome(workdir, arm) for arm in ("learned", "frozen")}


@pytest.mark.parametrize("instant", [in_compilation, in_a_chunk, in_a_save, in_another_arm])
def test_killed_run_ends_as_if_untouched(
    instant: Callable[[Path], bool], tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    workdir = tmp_path / "study"
    process = start(workdir)
    wait_for(instant, workdir, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    again = launch(workdir)
    assert again.returncode == 0, again.stderr
    assert {arm: outcome(workdir, arm) for arm in ("learned", "frozen")} == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0])
def test_killed_at_any_time(delay: float, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    workdir = tmp_path / "study"
    process = start(workdir)
    wait_for(in_compilation, workdir, process)
    time.sleep(delay)
    process.kill()
    process.communicate()
    assert launch(workdir).returncode == 0
    assert {arm: outcome(workdir, arm) for arm in ("learned", "frozen")} == undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("instant", [in_compilation, in_a_chunk])
def test_signal_saves_and_leaves(
    instant: Callable[[Path], bool], number: signal.Signals, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    workdir = tmp_path / "study"
    process = start(workdir, "--arms=learned", "--config.train.epochs=400", "--config.train.save_every=1000")
    wait_for(instant, workdir, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert errors.strip().splitlines()[-1].startswith(f"stopped by {number.name}")
    assert "Traceback" not in errors
    saved = [path.name for path in (workdir / FOLDER / "checkpoints").glob("[0-9]*")]
    assert bool(saved) == (instant is in_a_chunk)


def test_finished_study_trains_nothing(tmp_path: Path) -> None:
    workdir = tmp_path / "study"
    assert launch(workdir, "--config.train.epochs=1").returncode == 0
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    again = launch(workdir, "--config.train.epochs=1")
    assert again.returncode == 0 and "runs to do" not in again.stdout
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_broken_newest_checkpoint_is_named_and_the_one_before_serves(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    workdir = tmp_path / "study"
    process = start(workdir)
    checkpoints = workdir / FOLDER / "checkpoints"
    wait_for(lambda _: len([p for p in checkpoints.glob("*") if p.name.isdigit()]) == 2, workdir, process)
    process.kill()
    process.communicate()
    newest = max((p for p in checkpoints.glob("*") if p.name.isdigit()), key=lambda path: int(path.name))
    largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    again = launch(workdir)
    assert again.returncode == 0, again.stderr
    assert f"checkpoint {newest} cannot be read" in again.stderr
    assert "going on from the one before" in again.stderr
    assert {arm: outcome(workdir, arm) for arm in ("learned", "frozen")} == undisturbed
