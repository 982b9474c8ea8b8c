"""A run that is killed at any instant and started again ends as one that was never touched."""

import dataclasses
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnjax.config import DataConfig
from tests.launching import launch, newest_step, outcome, said, start
from tests.prepared_sets import IMAGES, encoded, photographs, prepare

FOLDER = Path("runs") / "learned" / "seed0"
ALONE = "--arms=learned"


# Of a workdir, and the time at which a process was started in it: what processes before it wrote says nothing.
Instant = Callable[[Path, float], bool]


def written(path: Path, since: float) -> bool:
    """The file is there and of this process."""
    return path.exists() and path.stat().st_mtime >= since


def in_compilation(workdir: Path, since: float) -> bool:
    """The run has begun, and nothing of it is saved: between the two lies the compiler."""
    return written(workdir / FOLDER / "status.json", since)


def in_a_chunk(workdir: Path, since: float) -> bool:
    """Metrics have come, so the chunk behind them runs."""
    metrics = workdir / FOLDER / "metrics.jsonl"
    return written(metrics, since) and metrics.stat().st_size > 0


def in_slow_training(workdir: Path, since: float) -> bool:
    """A chunk runs, and the next one takes a while."""
    return written(workdir / "training", since)


def in_a_save(workdir: Path, since: float) -> bool:
    """A checkpoint is half written, and there is one before it of more than no steps."""
    checkpoints = workdir / FOLDER / "checkpoints"
    half_written = any("tmp" in path.name and written(path, since) for path in checkpoints.glob("*"))
    return half_written and newest_step(workdir / FOLDER) > 0


def in_another_arm(workdir: Path, since: float) -> bool:
    """The first run has finished and the second one begun."""
    return written(workdir / "runs" / "frozen" / "seed0" / "checkpoints", since)


def wait_for(come: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until the instant has come; the process must not end before."""
    while not come():
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a study of one arm to which nothing has happened."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "study"
    ran = launch(workdir, ALONE)
    assert ran.returncode == 0, ran.stderr
    return workdir


@pytest.fixture(scope="module")
def undisturbed(finished: Path) -> dict[str, Any]:
    """What a study of both arms ends with."""
    ran = launch(finished)
    assert ran.returncode == 0, ran.stderr
    return {arm: outcome(finished, arm) for arm in ("learned", "frozen")}


def assert_ends_as(undisturbed: dict[str, Any], workdir: Path, *flags: str) -> None:
    """Goes on with a study, from the newest checkpoint of each run that has not finished, to the same end."""
    going_on = []
    for arm in undisturbed:
        folder = workdir / "runs" / arm / "seed0"
        if (step := newest_step(folder)) >= 0:
            state = json.loads((folder / "status.json").read_text())["state"]
            going_on += [f"{arm} seed 0: going on from step {step}"] if state == "running" else []
    again = launch(workdir, *flags)
    assert again.returncode == 0, again.stderr
    assert said(again.stderr) == going_on
    assert {arm: outcome(workdir, arm) for arm in undisturbed} == undisturbed


def test_stopped_and_then_killed_it_ends_as_if_untouched(tmp_path: Path, finished: Path) -> None:
    workdir = tmp_path / "study"
    interrupt(workdir, in_slow_training, signal.SIGINT, ALONE, slow="training")
    interrupt(workdir, in_a_save, signal.SIGKILL, ALONE, slow="training")
    assert newest_step(workdir / FOLDER) > 0
    assert_ends_as({"learned": outcome(finished)}, workdir, ALONE)


def interrupt(workdir: Path, instant: Instant, number: signal.Signals, *flags: str, slow: str = "") -> None:
    """Goes on with a study until the instant, and sends its process a signal then."""
    since = time.time()
    process = start(workdir, *flags, compiles=instant is in_compilation, slow=slow)
    wait_for(lambda: instant(workdir, since), process)
    if number == signal.SIGKILL:
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    else:
        assert_leaves_at_once(process, number)


def set_of_one_size(folder: Path) -> DataConfig:
    """Files of images that could lie in memory, and are more than it may hold."""
    data = prepare(folder, {"train": encoded(0, 48), "test": encoded(48, 60)})
    return dataclasses.replace(data, memory=IMAGES[:59].nbytes / 2**30)


def set_of_many_sizes(folder: Path) -> DataConfig:
    """Photographs, of which each epoch sees other squares."""
    return dataclasses.replace(photographs(folder), image_size=14)


@pytest.mark.slow
@pytest.mark.parametrize("make", [set_of_one_size, set_of_many_sizes])
def test_killed_run_whose_images_another_process_decodes_ends_as_if_untouched(
    make: Callable[[Path], DataConfig], tmp_path: Path
) -> None:
    data = dataclasses.asdict(dataclasses.replace(make(tmp_path / "data"), workers=1))
    asked = {name: data[name] for name in ("name", "dir", "validation", "memory", "image_size", "workers")}
    sizes = ("--config.train.batch_size=5", "--config.train.eval_batch_size=5", "--config.train.epochs=6")
    flags = (ALONE, *sizes, *(f"--config.data.{name}={value}" for name, value in asked.items()))
    undisturbed = launch(tmp_path / "undisturbed", *flags)
    assert undisturbed.returncode == 0, undisturbed.stderr
    workdir = tmp_path / "study"
    interrupt(workdir, in_a_save, signal.SIGKILL, *flags, slow="training")
    assert 0 < newest_step(workdir / FOLDER) < newest_step(tmp_path / "undisturbed" / FOLDER)
    assert_ends_as({"learned": outcome(tmp_path / "undisturbed")}, workdir, *flags)
    assert "data_wait" in json.loads((workdir / FOLDER / "status.json").read_text())["seconds"]


@pytest.mark.slow
def test_finished_study_trains_nothing(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    again = launch(finished, ALONE)
    assert again.returncode == 0 and "runs to do" not in again.stdout
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


@pytest.mark.slow
def test_signal_in_compilation_leaves_at_once(tmp_path: Path) -> None:
    workdir = tmp_path / "study"
    interrupt(workdir, in_compilation, signal.SIGTERM)
    assert newest_step(workdir / FOLDER) <= 0


@pytest.mark.slow
@pytest.mark.parametrize("instant", [in_compilation, in_a_chunk, in_a_save, in_another_arm])
def test_killed_run_ends_as_if_untouched(instant: Instant, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    workdir = tmp_path / "study"
    interrupt(workdir, instant, signal.SIGKILL)
    if instant in (in_a_save, in_another_arm):
        assert newest_step(workdir / FOLDER) > 0
    assert_ends_as(undisturbed, workdir)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0])
def test_killed_at_any_time(delay: float, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    workdir = tmp_path / "study"
    process = start(workdir)
    wait_for(lambda: in_compilation(workdir, 0), process)
    time.sleep(delay)
    process.kill()
    process.communicate()
    assert_ends_as(undisturbed, workdir)


# Seconds; to save takes less than one, on a machine that does nothing else.
AT_ONCE = 10


@pytest.mark.slow
def test_signal_in_a_chunk_saves_and_leaves(tmp_path: Path) -> None:
    workdir = tmp_path / "study"
    process = start(workdir, "--arms=learned", "--config.train.epochs=400", "--config.train.save_every=1000")
    wait_for(lambda: in_a_chunk(workdir, 0), process)
    assert_leaves_at_once(process, signal.SIGINT)
    assert newest_step(workdir / FOLDER) > 0


@pytest.mark.slow
@pytest.mark.parametrize(("split", "number"), [("validation", signal.SIGINT), ("test", signal.SIGTERM)])
def test_signal_in_an_evaluation_saves_and_leaves_and_the_run_ends_as_if_untouched(
    split: str, number: signal.Signals, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    workdir = tmp_path / "study"
    process = start(workdir, slow=split)
    wait_for(lambda: (workdir / split).exists(), process)
    assert_leaves_at_once(process, number)
    assert newest_step(workdir / FOLDER) == (39 if split == "validation" else 4 * 39)
    assert_ends_as(undisturbed, workdir)


def assert_leaves_at_once(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    _, errors = process.communicate(timeout=AT_ONCE)
    assert process.returncode == 128 + number
    assert errors.strip().splitlines()[-1].startswith(f"stopped by {number.name}")
    assert "Traceback" not in errors


@pytest.mark.slow
def test_broken_newest_checkpoint_is_named_and_the_one_before_serves(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    workdir = tmp_path / "study"
    process = start(workdir)
    checkpoints = workdir / FOLDER / "checkpoints"
    wait_for(lambda: len([p for p in checkpoints.glob("*") if p.name.isdigit()]) == 2, process)
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
