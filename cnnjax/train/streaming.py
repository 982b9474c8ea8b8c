"""Training on batches that are read and decoded while the devices work, instead of examples that lie on them.

Batch for batch a streamed run sees what it would see if all examples lay on the devices, but for the random squares of
training images where these have several sizes.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.batches import Batch, EvaluationBatches, Share, TrainingBatches
from cnnjax.data.feed import Feed
from cnnjax.data.streamed import StreamedDataset
from cnnjax.filters.plan import Flat
from cnnjax.train.devices import by_device, distribute, replicate, shards, spread
from cnnjax.train.program import Program, compile_settling, compiler_options
from cnnjax.train.state import Sums, TrainState
from cnnjax.train.step import Inputs, Task, evaluate_batch, train_step

if TYPE_CHECKING:
    from cnnjax.data.stream import Stream

# Each device has its own part of a batch; all else is whole on every device.
_AXES = Inputs(None, 0, 0, None, None)  # type: ignore[arg-type]


class Streams:
    """The batches of one run's splits, this process's part of each, read ahead from when they are first asked for.

    Args:
      dataset: of the run.
      seed: of the run.
      batch_size, eval_batch_size: over all devices.
      workers: processes that read for each split; see `cnnjax.data.stream.Stream`.
    """

    def __init__(
        self, dataset: StreamedDataset, seed: int, batch_size: int, eval_batch_size: int, workers: int | None
    ) -> None:
        share = Share(jax.process_index(), jax.process_count())
        self._training = TrainingBatches(dataset.train, seed, batch_size, share)
        self._evaluation = {
            "validation": EvaluationBatches(dataset.validation, eval_batch_size, share),
            "test": EvaluationBatches(dataset.test, eval_batch_size, share),
        }
        self.validation_size = len(dataset.validation)
        self._workers = workers
        self._open: dict[str, Stream] = {}

    def training(self, step: int) -> "Stream":
        """The batches from a step on."""
        if "train" in self._open and self._open["train"].step != step:
            self._open.pop("train").close()
        if "train" not in self._open:
            self._open["train"] = self._read(self._training, {"step": step, **self._training.description})
        return self._open["train"]

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on with the training batches from where they were.

        Args:
          state: of `training`, kept in a checkpoint.

        Raises:
          RequestError: for the state of other data.
        """
        self._open["train"] = self._read(self._training, state)

    def evaluation(self, split: str, batch: int) -> "Stream":
        """The batches of a split from one on."""
        batches = self._evaluation[split]
        if split in self._open and self._open[split].step % batches.batches != batch:
            self._open.pop(split).close()
        if split not in self._open:
            self._open[split] = self._read(batches, {"step": batch, **batches.description})
        return self._open[split]

    def _read(self, batches: TrainingBatches | EvaluationBatches, state: dict[str, Any]) -> "Stream":
        from cnnjax.data.stream import Stream  # Grain takes half a second to load, and most runs need none of it

        return Stream(batches, by_device(), self._workers, state)

    @property
    def waited(self) -> float:
        """Seconds that the devices have waited for training batches."""
        return self._open["train"].waited if "train" in self._open else 0.0

    def close(self) -> None:
        """Ends all workers."""
        while self._open:
            self._open.popitem()[1].close()


@dataclasses.dataclass(frozen=True)
class StreamedProgram:
    """What streamed runs of a task dispatch, compiled; `bind` joins it with the batches of one of them.

    Attributes:
      train: (shard, state, inputs) to the state a step later, of inputs whose training examples are its batch.
      evaluate: (shard, sums, (params, stats, batch, counted)) to the sums with a batch added.
      rest: the program but for what reads examples.
    """

    train: Any
    evaluate: Any
    rest: Program

    def bind(self, task: Task, streams: Streams) -> Program:
        """The program of a run that reads these batches."""
        shard = shards()

        def train(state: TrainState, inputs: Inputs, steps: Sequence[int]) -> TrainState:
            for _ in range(steps[0]):
                # What the stream waits from here on, the devices do.
                batch: Batch = next(streams.training(int(state.step)))
                state = self.train(shard, state, inputs._replace(train=Feed(batch.images, batch.labels)))
            return state

        def evaluate(sums: Sums, params: Flat, stats: Flat, feed: Feed, first: int, end: int, batches: int) -> Sums:
            del feed, end
            split = "validation" if first < streams.validation_size else "test"
            start = 0 if split == "validation" else streams.validation_size
            for number in range(batches):
                batch = next(streams.evaluation(split, (first - start) // task.eval_batch_size + number))
                given = Feed(batch.images, batch.labels), batch.counted
                sums = self.evaluate(shard, sums, (params, stats, *given))
            return sums

        return dataclasses.replace(self.rest, train=train, evaluate=evaluate)


def compile_streamed(task: Task, state: TrainState, inputs: Inputs) -> StreamedProgram:
    """Compiles for these shapes; the values of the arrays do not matter.

    Args:
      task: what to train.
      state: of any run of the task, on all devices.
      inputs: likewise; its feeds hold one batch each, [devices, batch / devices, ...], each device's part on it.
    """

    def train(shard: jax.Array, state: TrainState, inputs: Inputs) -> TrainState:
        # The examples of the batch that this device has are at their places less those of the devices before it.
        return train_step(task, state, inputs, shard, jnp.arange(task.batch_size) - shard * len(inputs.train.labels))

    def evaluate(shard: jax.Array, sums: Sums, given: tuple) -> Sums:
        params, stats, feed, counted = given
        first = -shard * len(feed.labels)
        return sums.add(evaluate_batch(task, params, stats, feed, first, counted.sum(), shard))

    options = compiler_options(task)
    params, stats = {**inputs.frozen[0], **state.trained}, {**inputs.frozen[1], **state.stats}
    counted = distribute(np.ones((jax.local_device_count(), inputs.held_out.labels.shape[1]), bool))
    step = spread(train, _AXES).lower(shards(), state, inputs)  # type: ignore[attr-defined]
    block = spread(evaluate, (None, None, 0, 0)).lower(  # type: ignore[attr-defined]
        shards(), replicate(Sums.zero()), (params, stats, inputs.held_out, counted)
    )
    return StreamedProgram(step.compile(options), block.compile(options), compile_settling(task, state))


def batch_feeds(dataset: StreamedDataset, batch_size: int, eval_batch_size: int) -> tuple[Feed, Feed]:
    """Feeds of the shapes of this process's part of one batch of training and of evaluation, [devices, batch / devices,
    ...], of zeros."""
    images = dataset.train.images

    def zeros(size: int) -> Feed:
        part = jax.local_device_count(), size // jax.device_count()
        return Feed(np.zeros((*part, *images.shape[1:]), images.dtype), np.zeros(part, np.int32))

    return zeros(batch_size), zeros(eval_batch_size)
