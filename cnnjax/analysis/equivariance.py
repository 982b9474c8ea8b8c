"""How far each stage's features are from moving with the image, and from staying where they are."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import Moments, moments
from cnnjax.analysis.subject import INPUT, Subject
from cnnjax.analysis.transformed import numbered, transformed_outputs
from cnnjax.ops.transformations.table import transformation

GEOMETRIC = frozenset({"translation", "rotation", "scale", "shear", "reflection", "perspective", "shift", "stretch"})
"""The transformations that act on the features' grid as on the image's. (The random field of `elastic` has no
counterpart on a coarser grid.)"""

IN_PIXELS = frozenset({"translation", "shift"})
"""Those whose magnitude is a length, which is shorter on a coarser grid; both move along the last spatial axis."""


def equivariance_errors(
    subject: Subject,
    images: np.ndarray,
    name: str,
    magnitudes: Sequence[float] | np.ndarray,
    key: jax.Array | None = None,
    batch_size: int = 256,
) -> list[Finding]:
    """The equivariance and the invariance error of every stage, at each magnitude of a transformation g.

    With phi(x) a stage's features of image x and |.| the Euclidean norm over one image's features,

      `<name>/equivariance_error` = mean over x of |phi(gx) - g phi(x)| / |g phi(x)|,
      `<name>/invariance_error`   = mean over x of |phi(gx) - phi(x)|, over the mean of |phi(x) - phi(x')|

    (Lenc and Vedaldi 2015 on equivariance; for the invariance error x' is the image after x in its batch, in a circle:
    the images should come in random order). Both are 0 at magnitude 0 and have no unit; an invariance error of 1 means
    that an image differs from its transformed self as from another image. Intervals are over images; the invariance
    error's take its denominator as known.

    A geometric g (one of `GEOMETRIC`) acts on a stage's grid as on the image, lengths being scaled by the grid's size.
    Where it fills the border with zeros, these are black pixels in the image but zeros among the features, the
    standardised images at stage `input` among them, whose error is what this alone makes. Other g and stages without
    a grid have only the invariance error. If g phi(x) is zero, the image's equivariance error is 0 if phi(gx) is zero
    too and 1 otherwise. A stage that is the same for all images has the invariance error 0, or infinity if the
    transformation changes it.

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units.
      name: of the transformation.
      magnitudes: in its unit, [M].
      key: what a random transformation draws from: each image once, for all magnitudes.
      batch_size: images at a time; at least 2.

    Raises:
      ValueError: for less than two images in all or in a batch; see `transformed` too.
    """
    if min(len(images), batch_size) < 2:
        raise ValueError(
            f"the distance between images needs two at least, in all and in a batch; given {len(images)} images and "
            f"batches of {batch_size}"
        )

    def measure(images: jax.Array, numbers: jax.Array) -> tuple[dict[str, np.ndarray], ...]:
        before = transformed_outputs(subject, images, numbers, np.float32(0), key, name)
        errors = []
        for magnitude in map(np.float32, magnitudes):
            after = transformed_outputs(subject, images, numbers, magnitude, key, name)
            errors.append(_errors(before, after, magnitude, name))
        equivariance, invariance = jax.tree.map(lambda *each: np.stack(each, axis=1), *errors)
        return equivariance, invariance, *_distances(before, numbers)

    found = moments(measure, (images, numbered(images)), batch_size)
    equivariance, invariance, distance, counts = found
    findings = []
    for stage in subject.stages:
        if stage in equivariance:
            metric = f"{name}/equivariance_error"
            findings += _findings(metric, stage, magnitudes, equivariance[stage], 1.0)
        between = float(distance[stage].mean / counts.mean)
        findings += _findings(f"{name}/invariance_error", stage, magnitudes, invariance[stage], between)
    return findings


def has_grid(features: jax.Array, spatial: Sequence[int]) -> bool:
    """Whether features [N, ...] of images with these spatial sizes have as many spatial dimensions."""
    return features.ndim == len(spatial) + 2


def act_on_grid(features: jax.Array, name: str, magnitude: jax.Array, spatial: Sequence[int]) -> jax.Array:
    """A geometric transformation of features, as if of the image that they were computed from.

    Args:
      features: float32 [N, *grid, C].
      name: one of `GEOMETRIC`.
      magnitude: in the unit for the image; lengths are scaled by grid / spatial.
      spatial: the image's sizes.

    Returns:
      [N, *grid, C].
    """
    factor = features.shape[-2] / spatial[-1] if name in IN_PIXELS else 1.0
    return transformation(name)(features, factor * magnitude, None)


def norms(features: jax.Array) -> jax.Array:
    """The Euclidean norm of each example [N, ...]: [N]."""
    return jnp.sqrt(jnp.sum(jnp.square(features.reshape(len(features), -1)), axis=1))


def relative(error: jax.Array, size: jax.Array) -> jax.Array:
    """error / size [N], both at least 0; where the size is 0, it is 0 if the error is too and 1 otherwise."""
    return jnp.where(size > 0, error / jnp.where(size > 0, size, 1), jnp.sign(error))


@functools.partial(jax.jit, static_argnames="name")
def _errors(
    before: dict[str, jax.Array], after: dict[str, jax.Array], magnitude: jax.Array, name: str
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    spatial = before[INPUT].shape[1:-1]
    equivariance = {}
    for stage, features in before.items():
        if name in GEOMETRIC and has_grid(features, spatial):
            moved = act_on_grid(features, name, magnitude, spatial)
            equivariance[stage] = relative(norms(after[stage] - moved), norms(moved))
    return equivariance, {stage: norms(after[stage] - features) for stage, features in before.items()}


@jax.jit
def _distances(before: dict[str, jax.Array], numbers: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
    """How far each image lies from the next, and whether that is another one; behind a last batch's only image comes
    its own copy."""
    apart = {stage: norms(features - jnp.roll(features, -1, axis=0)) for stage, features in before.items()}
    return apart, numbers != jnp.roll(numbers, -1)


def _findings(
    metric: str, stage: str, magnitudes: Sequence[float] | np.ndarray, errors: Moments, divisor: float
) -> list[Finding]:
    findings = []
    for magnitude, *values in zip(magnitudes, errors.mean, *errors.interval(), strict=True):
        if divisor > 0:
            value, low, high = (float(value / divisor) for value in values)
        else:
            value = low = high = 0.0 if values[0] == 0 else float("inf")
        findings.append(Finding(metric, value, stage, float(magnitude), low, high))
    return findings
