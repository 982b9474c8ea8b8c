"""How large the loss's gradient still is, layer by layer (vanishing and exploding gradients)."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import Moments, jackknife, moments_of
from cnnjax.analysis.subject import INPUT, Subject, stage_outputs
from cnnjax.data.feed import standardise
from cnnjax.filters.plan import flatten, is_kernel
from cnnjax.layers.auxiliary import AUXILIARY_LOGITS
from cnnjax.models.tracing import trace_network
from cnnjax.train.chunks import part_of_chunk
from cnnjax.train.loss import training_loss
from cnnjax.train.targets import check_labels

GROUPS = 8
"""Of batches at most, for the interval over them."""


def gradient_norms(
    subject: Subject,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    key: jax.Array,
    label_smoothing: float = 0.0,
    batch_size: int = 256,
) -> list[Finding]:
    """The norms of the gradient of the training loss, along the network (Hochreiter 1991; Glorot and Bengio 2010).

    `gradient_norm`, with a kernel's path as its stage, in the order in which the network applies them: |d L / d kernel|
    (Frobenius), where L is the mean of `cnnjax.train.loss.training_loss` over all images, with the interval of the
    jackknife over batches, dealt to `GROUPS` groups; NaN where all images are in one batch. `output_gradient_norm`, of
    each stage (of the standardised images too): the mean over images n of |d L_n / d output_n|, with its interval over
    images. Both are at least 0, in nats for each unit of the weight or output. Where batch norm ties the images of a
    batch together, L_n is the sum of their losses. In a linear chain of layers that scale by a, it falls by a factor of
    a with each layer further down: its logarithm has the slope log a.

    The network runs as in training: dropout drops, batch norm takes the batch's own statistics, and auxiliary heads
    count. So that statistics are of different images, a last batch with too few is filled up with those before it,
    whose losses do not count again. Memory does not grow with the number of images; each
    weight takes `GROUPS` numbers.

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units.
      labels: [N] integers.
      key: of dropout; the same one gives the same findings.
      label_smoothing: as in `training_loss`.
      batch_size: images at a time, and of the batch norm's statistics; all of them where there are fewer.

    Raises:
      ValueError: if a label is no class of the network, there are not as many labels as images or none, or the batch
        size is below 1.
    """
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), np.float32)
    check_labels(labels, jax.eval_shape(stage_outputs, subject, one)[subject.stages[-1]].shape[-1])
    if len(images) != len(labels) or len(images) == 0 or batch_size < 1:
        raise ValueError(
            f"there must be as many labels as images, at least 1, and a batch size of at least 1, not {len(labels)}, "
            f"{len(images)} and {batch_size}"
        )
    grouped: dict[str, np.ndarray] = {}
    counted = np.zeros(GROUPS)
    norms: dict[str, Moments] = {}
    for number, (rows, new) in enumerate(_full_batches(len(images), batch_size)):
        arrays = jnp.asarray(images[rows]), jnp.asarray(labels[rows]), jnp.asarray(new)
        kernels, sizes = _batch_gradients(subject, *arrays, jax.random.fold_in(key, number), label_smoothing)
        counted[number % GROUPS] += new.sum()
        for path, part in kernels.items():
            grouped.setdefault(path, np.zeros((GROUPS, *part.shape)))[number % GROUPS] += part
        for stage, size in sizes.items():
            found = moments_of(np.asarray(size)[new])
            norms[stage] = norms[stage] + found if stage in norms else found
    findings = [_over_batches(path, grouped[path], counted) for path in _as_applied(subject, grouped, images.shape[1:])]
    return findings + [_over_images(stage, norms[stage]) for stage in subject.stages]


def _as_applied(subject: Subject, paths: Iterable[str], image_shape: tuple[int, ...]) -> list[str]:
    """The kernels' paths in the order in which the network applies their layers to an image [*spatial, C]."""
    places = {layer: place for place, layer in enumerate(trace_network(subject.model, image_shape).layers)}

    # A layer that is not run by being called has no place of its own: it comes last in its stage.
    def key(path: str) -> tuple[int, int]:
        stage, layer = path.partition("/")[0], path.rpartition("/")[0]
        return subject.stages.index(stage), places.get(layer, len(places))

    return sorted(paths, key=key)


def _full_batches(examples: int, batch_size: int) -> Iterator[tuple[slice, np.ndarray]]:
    """The rows of each batch, all of one size, and which of them no batch before has had."""
    size = min(batch_size, examples)
    for first in range(0, examples, size):
        begin, new = part_of_chunk(examples, first, size)
        yield slice(int(begin), int(begin) + size), np.asarray(new)


@functools.partial(jax.jit, static_argnames="label_smoothing")
def _batch_gradients(
    subject: Subject,
    images: jax.Array,
    labels: jax.Array,
    counted: jax.Array,
    key: jax.Array,
    label_smoothing: float,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The gradient of the summed loss by kernel, and its norm by stage for each image [N]."""

    def loss(params: dict[str, Any], offsets: dict[str, jax.Array]) -> jax.Array:
        x, auxiliary = standardise(images, subject.mean, subject.std) + offsets[INPUT], []
        after: str | None = None
        for name in subject.model.stage_names:
            x, moved = subject.model.apply(
                {**subject.variables, "params": params},
                x,
                train=True,
                after=after,
                until=name,
                mutable=["batch_stats", AUXILIARY_LOGITS],
                rngs={"dropout": key},
            )
            auxiliary += jax.tree.leaves(moved.get(AUXILIARY_LOGITS, {}))
            x, after = x + offsets[name], name
        return jnp.where(counted, training_loss(x, auxiliary, labels, label_smoothing), 0).sum()

    # Zeros that are added to a stage's output have its gradient.
    offsets = jax.tree.map(jnp.zeros_like, stage_outputs(subject, images))
    with jax.default_matmul_precision("highest"):
        by_params, by_outputs = jax.grad(loss, (0, 1))(subject.variables["params"], offsets)
    kernels = {path: gradient for path, gradient in flatten(by_params).items() if is_kernel(path)}
    return kernels, {stage: jnp.linalg.norm(g.reshape(len(g), -1), axis=1) for stage, g in by_outputs.items()}


def _over_batches(path: str, grouped: np.ndarray, examples: np.ndarray) -> Finding:
    def norm(summed: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        gradient, images = summed
        return np.asarray(np.linalg.norm(gradient) / images)

    found = jackknife(norm, (grouped, examples), examples)
    low, high = found.interval()
    return Finding("gradient_norm", float(found.mean), path, low=float(low), high=float(high))


def _over_images(stage: str, found: Moments) -> Finding:
    low, high = found.interval()
    return Finding("output_gradient_norm", float(found.mean), stage, low=float(low), high=float(high))
