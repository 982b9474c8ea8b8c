"""Batches read, decoded and put on the devices before they are asked for, by Grain."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

import grain
import jax
import numpy as np
from absl import flags
from grain.experimental import ThreadPrefetchIterDataset

from cnnjax.config import RequestError
from cnnjax.data.batches import Batch, EvaluationBatches, TrainingBatches

# One is trained on while the next is on its way.
_BATCHES_ON_DEVICES = 2

_MOST_WORKERS = 16


class Stream:
    """The batches from a step on, each on the devices as soon as there is room for it.

    `next` gives the next one: each array [devices, B / devices, ...], the form that `jax.pmap` maps over. What is
    given is a function of the batches and the step alone, whatever the number of workers. `close` ends the workers; so
    does the end of this process, however it comes.

    Args:
      batches: of this process.
      sharding: of the leading axis over the devices of all processes.
      workers: processes; 0 for a thread of this one; None for `default_workers`.
      state: what `state` was when the batch before the first was given; None to begin at step 0.

    Attributes:
      step: of the next batch.
      waited: seconds spent in `next`; where it is called while the devices have nothing to do, theirs.

    Raises:
      RequestError: for a state of other batches.
    """

    def __init__(
        self,
        batches: TrainingBatches | EvaluationBatches,
        sharding: jax.sharding.Sharding,
        workers: int | None = None,
        state: dict[str, Any] | None = None,
    ) -> None:
        self._batches = batches
        self.step = 0 if state is None else _step_of(state, batches.description)
        self.waited = 0.0
        count = default_workers() if workers is None else workers
        self._arrived: Iterator[Batch] = _read_ahead(batches, self.step, sharding, count)

    def __next__(self) -> Batch:
        asked = time.monotonic()
        batch = next(self._arrived)
        self.waited += time.monotonic() - asked
        self.step += 1
        return batch

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, plain JSON. It holds for any number of devices, processes and workers."""
        return {"step": self.step, **self._batches.description}

    def close(self) -> None:
        """Ends the workers, and waits until they have; nothing comes any more."""
        if isinstance(self._arrived, grain.DatasetIterator):
            self._arrived.close()
            self._arrived = iter(())


def default_workers() -> int:
    """One less than the cores that this process may use, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores - 1, _MOST_WORKERS)


def _step_of(state: dict[str, Any], description: dict[str, Any]) -> int:
    for name, value in description.items():
        if state.get(name) != value:
            raise RequestError(
                f"config.data: the run was saved with {name} {state.get(name)!r} of its data; now {value!r}; remove "
                "its folder to run it again"
            )
    return state["step"]


def _read_ahead(
    batches: TrainingBatches | EvaluationBatches, step: int, sharding: jax.sharding.Sharding, workers: int
) -> grain.DatasetIterator[Batch]:
    devices = len(sharding.addressable_devices)

    def place(batch: Batch) -> Batch:
        # A worker's arrays lie in memory shared with it, which JAX would hold on to at its leisure.
        parts = (np.array(array).reshape(devices, -1, *array.shape[1:]) for array in batch)
        return Batch(*(jax.make_array_from_process_local_data(sharding, part) for part in parts))

    # Whole batches are shared out over the workers, so that their number changes none of them.
    dataset = grain.MapDataset.source(batches)[step:].to_iter_dataset(grain.ReadOptions(0, 0))
    if workers:
        options = grain.MultiprocessingOptions(workers)
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's own, which are not ours to set, are read there
        dataset = dataset.mp_prefetch(options, worker_init_fn=_begin_worker)
    dataset = ThreadPrefetchIterDataset(dataset.map(place), prefetch_buffer_size=_BATCHES_ON_DEVICES)
    with _signals_left_to_this_process():
        iterator = iter(dataset)
        iterator.start_prefetch()
    return iterator


@contextlib.contextmanager
def _signals_left_to_this_process() -> Iterator[None]:
    """Threads and processes that are started meanwhile ignore Ctrl-C and SIGTERM, which often go to a whole group.

    The run goes on to save; its workers are ended when it is done, and not before.
    """
    _start_resource_tracker()  # where a worker's start has to start it, both signals are let in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_resource_tracker() -> None:
    """Python's process that removes shared memory once its users have gone; without its warnings that it has to.

    A run that is stopped leaves at once, and the rest to it.
    """
    quiet = "ignore::UserWarning:multiprocessing.resource_tracker"
    sys.warnoptions.append(quiet)  # the options of a new Python process are this one's
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(quiet)


def _begin_worker(place: int, workers: int) -> None:
    """What a worker does first: it keeps off the accelerators, and sees to it that it ends when its parent does."""
    del place, workers
    jax.config.update("jax_platforms", "cpu")
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
