"""Which examples of a streamed split are in which batch: a function of the step, and in training of the seed.

The examples are shared out over the processes of a run: each reads its own part of every batch, and all parts together
are the batch of a run of one process.
"""

import dataclasses
import functools
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
import PIL.Image

from cnnjax.data.feed import epoch_order
from cnnjax.data.recipe import training_square
from cnnjax.data.streamed import StreamedSplit
from cnnjax.ops.keys import stream_key


class Batch(NamedTuple):
    """A process's part of a batch.

    Attributes:
      images: [B, *spatial, C], uint8, or float32 where the set is not of bytes.
      labels: [B] int32.
      counted: [B] bool; what is not only fills up the last batch of an evaluation.
    """

    images: Any
    labels: Any
    counted: Any


@dataclasses.dataclass(frozen=True)
class Share:
    """A process's part of each batch: that at place `process` of `processes`, all of one size."""

    process: int = 0
    processes: int = 1

    def places(self, batch_size: int) -> np.ndarray:
        """In a batch over all processes.

        Raises:
          ValueError: if the processes do not divide it.
        """
        part, rest = divmod(batch_size, self.processes)
        if rest:
            raise ValueError(f"{self.processes} processes do not divide a batch of {batch_size}")
        return self.process * part + np.arange(part)


@dataclasses.dataclass(frozen=True)
class TrainingBatches:
    """The batches of a run in training, by step.

    The order of an epoch is `cnnjax.data.feed.epoch_order`, as in memory, and what is left over at its end is dropped.
    The random squares of an example are a function of the seed, the epoch and its place in the split.

    Attributes:
      split: of training.
      seed: of the run.
      batch_size: over all processes.
      share: this process's.
    """

    split: StreamedSplit
    seed: int
    batch_size: int
    share: Share = Share()

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, step: int) -> Batch:
        epoch, place = divmod(step, len(self.split) // self.batch_size)
        order = _order(self.seed, epoch, len(self.split))
        index = order[place * self.batch_size + self.share.places(self.batch_size)]
        squares = [functools.partial(_random_square, self.seed, epoch, int(example)) for example in index]
        images = self.split.decode(index, squares)
        return Batch(images, self.split.labels[index], np.ones(len(index), bool))

    @property
    def description(self) -> dict[str, Any]:
        """What decides on the batch at a step; plain JSON."""
        return {**_describe(self.split), "batch_size": self.batch_size, "seed": self.seed}


@dataclasses.dataclass(frozen=True)
class EvaluationBatches:
    """The batches of a split that is evaluated, in its own order, again and again.

    The last is filled up with the last example.

    Attributes:
      split: to be evaluated.
      batch_size: over all processes.
      share: this process's.
    """

    split: StreamedSplit
    batch_size: int
    share: Share = Share()

    def __len__(self) -> int:
        return sys.maxsize

    @property
    def batches(self) -> int:
        """Until each example has been counted once."""
        return -(-len(self.split) // self.batch_size)

    def __getitem__(self, step: int) -> Batch:
        wanted = step % self.batches * self.batch_size + self.share.places(self.batch_size)
        index = np.minimum(wanted, len(self.split) - 1)
        return Batch(self.split.decode(index), self.split.labels[index], wanted < len(self.split))

    @property
    def description(self) -> dict[str, Any]:
        """What decides on the batch at a step; plain JSON."""
        return {**_describe(self.split), "batch_size": self.batch_size}


def _describe(split: StreamedSplit) -> dict[str, Any]:
    return {
        "name": split.records.name,
        "examples": len(split),
        "image_size": split.image_size,
        "contents": split.contents,
    }


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, examples: int) -> np.ndarray:
    return np.asarray(_epoch_order(stream_key(seed, "order"), epoch, examples))


_epoch_order = jax.jit(epoch_order, static_argnums=2)


def _random_square(seed: int, epoch: int, example: int, picture: PIL.Image.Image, size: int) -> PIL.Image.Image:
    """Drawn by NumPy's legacy generator, which is frozen."""
    return training_square(picture, size, np.random.RandomState([seed, epoch, example]))
