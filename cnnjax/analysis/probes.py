"""What a linear classifier can read from each stage (Alain and Bengio 2016)."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.confusion import share_with_interval
from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import batches
from cnnjax.analysis.subject import Subject, check_stages, stage_outputs
from cnnjax.train.chunks import Rows, array_rows
from cnnjax.train.ridge import correct_counts, ridge_path
from cnnjax.train.targets import one_hot_targets

STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""The penalties tried by default, in units of the features' mean variance times the number of images."""

Labelled = tuple[np.ndarray, np.ndarray]
"""Images [N, *spatial, C] and their labels [N]."""

_Part = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Images, the places of some of them, and the labels of these."""


def probe_accuracy(
    subject: Subject,
    train: Labelled,
    test: Labelled,
    *,
    key: jax.Array,
    stages: tuple[str, ...] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    held_out: float = 0.2,
    batch_size: int = 256,
    most_bytes: int = 2**28,
) -> list[Finding]:
    """`probe_accuracy`: the share of test images that a linear classifier on a stage's outputs classes rightly.

    The classifier is ridge regression onto one-hot labels in closed form (`cnnjax.train.ridge.ridge_path`), on all of
    the stage's outputs as they are. It is fitted on a part of the training images, drawn at random, for every strength;
    the strength that does best on the rest is taken (of equals the strongest), and it alone sees the test images.
    Accuracy is in 0 ... 1; the interval is over test images (Wilson's).

    Outputs of the stages that together take up to `most_bytes` are computed once and kept, smallest first. Those of
    other stages are computed again whenever they are read, in pieces of a quarter of `most_bytes`. Besides, a matrix of
    side min(outputs, images fitted) is held, and a kernel for each strength.

    Args:
      subject: the network.
      train: images [N, *spatial, C] in their own units, and labels [N], integers from 0.
      test: the same, [M, *spatial, C] and [M].
      key: of which training images are held out.
      stages: those to be probed; all by default, the input among them.
      strengths: penalties >= 0, as in `STRENGTHS`.
      held_out: the share of the training images that the strength is chosen on, in (0, 1); at least one is.
      batch_size: images at a time.
      most_bytes: of outputs that are held.

    Returns:
      One finding for each stage.

    Raises:
      ValueError: for a stage that is not there, naming those that are; labels that are not integers from 0, one for
        each image; fewer than two training images or no test image; a share that is not in (0, 1); or a wrong strength.
    """
    chosen = subject.stages if stages is None else stages
    check_stages(subject, chosen)
    for (images, labels), least in ((train, 2), (test, 1)):
        if len(images) != len(labels) or len(images) < least:
            raise ValueError(
                "there must be a label for each image, two training images and one test image at least, not "
                f"{len(labels)} labels for {len(images)} images"
            )
    if not 0 < held_out < 1:
        raise ValueError(f"held_out must be in (0, 1), not {held_out}")
    parts = (*_split(train, held_out, key), (test[0], np.arange(len(test[1])), test[1]))
    widths = _widths(subject, train[0], chosen)
    images_in_all = sum(len(labels) for *_, labels in parts)
    kept = _smallest(widths, most_bytes // (4 * images_in_all))
    features = [_features(subject, images, places, kept, widths, batch_size) for images, places, _ in parts]
    findings = []
    for stage in chosen:
        if stage in kept:
            chunk = images_in_all
            rows = [array_rows(part[stage]) for part in features]
        else:
            chunk = max(1, most_bytes // (16 * widths[stage]))
            rows = [_rows(subject, images, places, stage, widths, batch_size) for images, places, _ in parts]
        correct = _correct(rows, [labels for *_, labels in parts], sorted(strengths, reverse=True), chunk)
        low, accuracy, high = share_with_interval(correct, len(test[1]))
        findings.append(Finding("probe_accuracy", accuracy, stage, low=low, high=high))
    return findings


def _split(train: Labelled, held_out: float, key: jax.Array) -> tuple[_Part, _Part]:
    """The training images that are fitted, and those held out."""
    images, labels = train
    order = np.asarray(jax.random.permutation(key, len(images)))
    count = min(max(1, round(held_out * len(images))), len(images) - 1)
    return (images, order[count:], labels[order[count:]]), (images, order[:count], labels[order[:count]])


def _widths(subject: Subject, images: np.ndarray, stages: tuple[str, ...]) -> dict[str, int]:
    """How many outputs each stage has for one image."""
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), np.float32)
    shapes = jax.eval_shape(stage_outputs, subject, one)
    return {stage: math.prod(shapes[stage].shape) for stage in stages}


def _smallest(widths: dict[str, int], most: int) -> tuple[str, ...]:
    """Stages, the narrowest first, as long as their outputs together are no more than so many for each image."""
    order = sorted(widths, key=widths.__getitem__)
    ends = np.cumsum([widths[stage] for stage in order])
    return tuple(order[: np.searchsorted(ends, most, side="right")])


@functools.partial(jax.jit, static_argnames="stages")
def _flat_outputs(subject: Subject, images: jax.Array, stages: tuple[str, ...]) -> dict[str, jax.Array]:
    outputs = stage_outputs(subject, images)
    return {stage: outputs[stage].reshape(len(images), -1) for stage in stages}


def _features(
    subject: Subject,
    images: np.ndarray,
    places: np.ndarray,
    stages: tuple[str, ...],
    widths: dict[str, int],
    batch_size: int,
) -> dict[str, np.ndarray]:
    """The stages' outputs for the images at these places [N], float32 [N, D] each."""
    features = {stage: np.empty((len(places), widths[stage]), np.float32) for stage in stages}
    if not stages:
        return features
    for number, (mask, rows) in enumerate(batches((places,), batch_size)):
        first, count = number * batch_size, int(mask.sum())
        for stage, outputs in _flat_outputs(subject, jnp.asarray(images[rows]), stages).items():
            features[stage][first : first + count] = np.asarray(outputs)[:count]
    return features


def _rows(
    subject: Subject, images: np.ndarray, places: np.ndarray, stage: str, widths: dict[str, int], batch_size: int
) -> Rows:
    """A reader of a stage's outputs that keeps none of them."""
    return lambda first, last: _features(subject, images, places[first:last], (stage,), widths, batch_size)[stage]


def _correct(rows: list[Rows], labels: list[np.ndarray], strengths: list[float], chunk: int) -> int:
    """How many test images are classed rightly.

    Args:
      rows, labels: of the images fitted, those held out, and those of the test.
      strengths: in falling order.
      chunk: rows that are read at a time.
    """
    classes = 1 + max(int(np.max(part)) for part in labels)
    sizes = [len(part) for part in labels]
    path = ridge_path(rows[0], sizes[0], one_hot_targets(labels[0], classes), strengths, chunk, relative=True)
    counts = correct_counts(path.kernels, path.biases, rows[1], sizes[1], labels[1], chunk)
    best = int(np.argmax(counts))
    taken = slice(best, best + 1)
    return int(correct_counts(path.kernels[taken], path.biases[taken], rows[2], sizes[2], labels[2], chunk)[0])
