"""One walk over images and the magnitudes of a transformation, for all measures that want it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import sums
from cnnjax.analysis.subject import Subject
from cnnjax.analysis.transformed import numbered, transformed_outputs

Outputs = dict[str, jax.Array]
"""The stages' outputs of a batch, [B, ...], by name."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is shown to a network: each image, transformed by each magnitude.

    Attributes:
      subject: the network.
      images: [N, *spatial, C] in their own units.
      name: of the transformation g, perhaps with settings: `rotation`, or `translation(border=zeros)`; see
        `cnnjax.ops.transformations.table.find`.
      magnitudes: in its unit, [M], at least one.
      key: what a random transformation draws from, each image once for all magnitudes; other ones may go without.
      batch_size: images at a time.
      labels: int [N], for the measures that read them.
    """

    subject: Subject
    images: np.ndarray
    name: str
    magnitudes: Sequence[float] | np.ndarray
    key: jax.Array | None = None
    batch_size: int = 256
    labels: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some of the images of a sweep.

    Attributes:
      mask: bool [B], False for padding.
      numbers: int [B], the place of each among all images.
      labels: int [B]; 0 where the sweep has none.
      outputs: of the stages for the untouched images.
    """

    mask: jax.Array
    numbers: jax.Array
    labels: jax.Array
    outputs: Outputs


@dataclasses.dataclass(frozen=True)
class Tally:
    """How a measure is taken in a walk.

    Attributes:
      gather: from what it has of a batch so far (None before the first magnitude), the batch, the outputs of the
        transformed images and the magnitude, to what it has then.
      close: from what it has of a batch in the end, and the batch, to a pytree of arrays or `Moments`, which are added
        up over batches.
      findings: from that sum to what is found.
    """

    gather: Callable[[Any, Batch, Outputs, np.float32], Any]
    close: Callable[[Any, Batch], Any]
    findings: Callable[[Any], list[Finding]]


def walk(sweep: Sweep, *measures: Callable[[Sweep], Tally]) -> list[list[Finding]]:
    """What each of the measures finds along a sweep. The network sees every transformed image once for all of them.

    Memory grows with neither the number of images nor that of magnitudes, but for what a measure itself keeps.

    Args:
      sweep: what is shown.
      measures: the functions `tally` of this room's modules, such as `cnnjax.analysis.equivariance.tally`.

    Raises:
      ValueError: for no magnitude, what a measure refuses, and as in `transformed` and `batches`.
    """
    if len(sweep.magnitudes) == 0:
        raise ValueError(f"a sweep of {sweep.name} needs one magnitude at least")
    tallies = [measure(sweep) for measure in measures]

    def of_batch(mask: jax.Array, images: jax.Array, numbers: jax.Array, labels: jax.Array) -> list[Any]:
        def outputs(magnitude: np.float32) -> Outputs:
            return transformed_outputs(sweep.subject, images, numbers, magnitude, sweep.key, sweep.name)

        batch = Batch(mask, numbers, labels, outputs(np.float32(0)))
        gathered: list[Any] = [None] * len(tallies)
        for magnitude in map(np.float32, sweep.magnitudes):
            moved = outputs(magnitude) if magnitude else batch.outputs
            pairs = zip(tallies, gathered, strict=True)
            gathered = [tally.gather(so_far, batch, moved, magnitude) for tally, so_far in pairs]
        return [tally.close(whole, batch) for tally, whole in zip(tallies, gathered, strict=True)]

    numbers = numbered(sweep.images)
    labels = np.zeros_like(numbers) if sweep.labels is None else sweep.labels
    totals = sums(of_batch, (sweep.images, numbers, labels), sweep.batch_size)
    return [tally.findings(total) for tally, total in zip(tallies, totals, strict=True)]
