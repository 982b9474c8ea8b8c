"""Batches on the devices ahead of time: in order, resumed exactly, and with no process left behind."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnnjax.config import RequestError
from cnnjax.data import stream as module
from cnnjax.data.batches import Batch, EvaluationBatches, TrainingBatches
from cnnjax.data.stream import Stream, default_workers
from cnnjax.data.streamed import StreamedDataset, open_dataset
from tests.prepared_sets import photographs

ROOT = Path(__file__).parent.parent
SHARDING = NamedSharding(Mesh(np.asarray(jax.devices()), ("devices",)), PartitionSpec("devices"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("photographs")


@pytest.fixture(scope="module")
def photos(folder: Path) -> StreamedDataset:
    """36 to train on, 3 held out and 10 to test on."""
    config = dataclasses.replace(photographs(folder), image_size=10, validation=0.1, examples=36)
    dataset = open_dataset(config)
    assert isinstance(dataset, StreamedDataset)
    return dataset


@pytest.fixture
def started() -> Iterator[list[Stream]]:
    """Streams to be closed when the test is over."""
    streams: list[Stream] = []
    yield streams
    for stream in streams:
        stream.close()


def check_next(stream: Stream, expected: Batch) -> None:
    """The next batch is this one, on the devices."""
    for array, wanted in zip(next(stream), expected, strict=True):
        assert isinstance(array, jax.Array)
        assert array.sharding.is_equivalent_to(SHARDING, array.ndim)
        assert array.dtype == wanted.dtype
        assert np.array_equal(array, wanted[None])


def test_batches_come_in_order(photos: StreamedDataset, started: list[Stream]) -> None:
    batches = TrainingBatches(photos.train, seed=1, batch_size=9)
    started.append(stream := Stream(batches, SHARDING, workers=0))
    for step in range(6):
        assert stream.step == step
        check_next(stream, batches[step])
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)


def test_restored_stream_goes_on_with_the_same_bits(photos: StreamedDataset, started: list[Stream]) -> None:
    batches = TrainingBatches(photos.train, seed=1, batch_size=9)
    started.append(stream := Stream(batches, SHARDING, workers=0))
    for _ in range(5):  # into the second epoch
        next(stream)
    saved = json.loads(json.dumps(stream.state()))
    started.append(restored := Stream(batches, SHARDING, workers=0, state=saved))
    assert restored.step == 5
    for step in range(5, 9):
        check_next(restored, batches[step])


def test_evaluation_begins_again_after_its_last_batch(photos: StreamedDataset, started: list[Stream]) -> None:
    batches = EvaluationBatches(photos.test, 4)
    started.append(stream := Stream(batches, SHARDING, workers=0))
    for step in range(2 * batches.batches):
        check_next(stream, batches[step % 3])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"seed": 2}, "seed 1 of its data; now 2"),
        ({"batch_size": 12}, "batch_size 9 of its data; now 12"),
    ],
)
def test_state_of_other_batches_is_refused(photos: StreamedDataset, change: dict[str, Any], problem: str) -> None:
    batches = TrainingBatches(photos.train, seed=1, batch_size=9)
    saved = {"step": 3, **batches.description}
    line = f"config.data: the run was saved with {problem}; remove its folder to run it again"
    with pytest.raises(RequestError, match=f"^{line}$"):
        Stream(dataclasses.replace(batches, **change), SHARDING, workers=0, state=saved)


def test_time_waited_is_that_between_asking_and_getting(
    photos: StreamedDataset, started: list[Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    started.append(stream := Stream(EvaluationBatches(photos.test, 4), SHARDING, workers=0))
    assert stream.waited == 0
    clock = iter([100.0, 103.0, 110.0, 110.5])
    monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    next(stream)
    next(stream)
    assert stream.waited == 3.5


def test_what_goes_wrong_with_a_batch_is_raised(photos: StreamedDataset, started: list[Stream]) -> None:
    batches = TrainingBatches(photos.train, seed=1, batch_size=9)
    broken = dataclasses.replace(photos.train, image_size=-1)
    started.append(stream := Stream(dataclasses.replace(batches, split=broken), SHARDING, workers=0))
    with pytest.raises(ValueError, match="height and width must be > 0"):
        next(stream)


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (2, 1), (8, 7), (96, 16)])
def test_a_core_is_left_to_the_run(monkeypatch: pytest.MonkeyPatch, cores: int, workers: int) -> None:
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda process: set(range(cores)))
    assert default_workers() == workers


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_and_end(photos: StreamedDataset, workers: int) -> None:
    before = set(group(os.getpgid(0)))
    batches = TrainingBatches(photos.train, seed=1, batch_size=9)
    stream = Stream(batches, SHARDING, workers, state={"step": 3, **batches.description})
    for step in range(3, 12):
        check_next(stream, batches[step])
    assert len(worker_processes(set(group(os.getpgid(0))) - before)) == workers
    stream.close()
    assert not worker_processes(set(group(os.getpgid(0))) - before)


@pytest.mark.slow
def test_worker_that_dies_is_an_error(photos: StreamedDataset) -> None:
    before = set(group(os.getpgid(0)))
    stream = Stream(EvaluationBatches(photos.test, 4), SHARDING, workers=1)
    next(stream)
    (worker,) = worker_processes(set(group(os.getpgid(0))) - before)
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="terminated unexpectedly with exit code -9"):
        for _ in range(20):
            next(stream)
    stream.close()


# Streams until a signal comes, then takes five batches more and closes the stream, or leaves at once, as asked.
RUN = """
import dataclasses, sys, jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from cnnjax.config import DataConfig
from cnnjax.data.batches import TrainingBatches
from cnnjax.data.stream import Stream
from cnnjax.data.streamed import open_dataset
from cnnjax.train.interruption import Interruption, Stopped, run_interruptibly

def work(interruption: Interruption) -> int:
    split = open_dataset(DataConfig(name="small", dir=sys.argv[1], image_size=10)).train
    sharding = NamedSharding(Mesh(np.asarray(jax.devices()), ("devices",)), PartitionSpec("devices"))
    stream = Stream(TrainingBatches(split, 0, 6), sharding, workers=2)
    for _ in range(6):
        next(stream)
    print("training", "tensorflow" in sys.modules, flush=True)
    while not interruption.requested:
        next(stream)
    for _ in range(5):
        next(stream)
    print("saved", flush=True)
    if sys.argv[2] == "closes":
        stream.close()
    raise Stopped

sys.exit(run_interruptibly(work))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "number", "status", "saved"),
    [
        ("closes", signal.SIGINT, 130, "saved"),
        ("leaves", signal.SIGTERM, 143, "saved"),
        ("leaves", signal.SIGKILL, -9, ""),
    ],
)
def test_no_process_outlives_its_run(
    photos: StreamedDataset, folder: Path, end: str, number: int, status: int, saved: str
) -> None:
    words = [sys.executable, "-c", RUN, str(folder), end]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    run = subprocess.Popen(words, env=environment, start_new_session=True, **pipes)
    assert run.stdout is not None
    assert run.stdout.readline() == "training False\n"
    assert len(worker_processes(set(group(run.pid)))) == 2
    if number == signal.SIGKILL:
        run.kill()
    else:
        os.killpg(run.pid, number)  # as a terminal does, and a cluster
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out.strip()) == (status, saved)
    assert "Traceback" not in err
    assert "leaked" not in err
    deadline = time.monotonic() + 60
    while (left := group(run.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert left == []


# One of two processes of two devices each: prints what it has of each batch, and the sum that all agree on.
MEMBER = """
import sys, jax, numpy as np
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[2], 2, int(sys.argv[3]))
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from cnnjax.config import DataConfig
from cnnjax.data.batches import Share, TrainingBatches
from cnnjax.data.stream import Stream
from cnnjax.data.streamed import open_dataset

split = open_dataset(DataConfig(name="small", dir=sys.argv[1], image_size=10, validation=0.1, examples=36)).train
sharding = NamedSharding(Mesh(np.asarray(jax.devices()), ("devices",)), PartitionSpec("devices"))
share = Share(jax.process_index(), jax.process_count())
stream = Stream(TrainingBatches(split, 1, 12, share), sharding, workers=0)
for _ in range(4):
    batch = next(stream)
    whole = jax.jit(lambda x: x, out_shardings=NamedSharding(sharding.mesh, PartitionSpec()))(batch.images)
    print(batch.images.shape, len(batch.images.addressable_shards), np.asarray(whole).tobytes().hex())
stream.close()
"""


@pytest.mark.slow
def test_two_processes_share_each_batch(photos: StreamedDataset, folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    members = [
        subprocess.Popen(
            [sys.executable, "-c", MEMBER, str(folder), address, str(place)],
            env={**os.environ, **flags},
            stdout=subprocess.PIPE,
            text=True,
        )
        for place in range(2)
    ]
    printed = [member.communicate(timeout=300)[0].splitlines() for member in members]
    assert [member.returncode for member in members] == [0, 0]
    batches = TrainingBatches(photos.train, seed=1, batch_size=12)
    expected = [f"(4, 3, 10, 10, 3) 2 {batches[step].images.tobytes().hex()}" for step in range(4)]
    assert [lines[-4:] for lines in printed] == [expected, expected]  # Gloo says that it is there


def group(leader: int) -> list[int]:
    """The processes of a group that are still there."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(process) for process, its_group, state in rows if int(its_group) == leader and state[0] != "Z"]


def worker_processes(processes: set[int]) -> list[int]:
    """Those that read data; Python's tracker of shared memory is another."""
    lines = {process: command_line(process) for process in processes}
    return [process for process, line in lines.items() if "multiprocessing.spawn" in line]


def command_line(process: int) -> str:
    listed = subprocess.run(["ps", "-o", "args=", "-p", str(process)], capture_output=True, text=True)
    return listed.stdout
