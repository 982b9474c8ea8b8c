"""How far each stage's features are from moving with the image, and from staying where they are."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.grids import Grids, stage_grids
from cnnjax.analysis.streaming import Moments, moments_of
from cnnjax.analysis.sweep import Batch, Outputs, Sweep, Tally, walk
from cnnjax.ops.transformations.table import act_on_grid, find

GEOMETRIC = frozenset({"translation", "rotation", "scale", "shear", "reflection", "perspective", "shift", "stretch"})
"""The transformations that act on the features' grid as on the image's. (The random field of `elastic` has no
counterpart on a coarser grid.)"""

Errors = tuple[tuple[Outputs, Outputs], ...]
"""At each magnitude so far, for each image of a batch: the equivariance errors, and the distances moved, by stage."""


def equivariance_errors(sweep: Sweep) -> list[Finding]:
    """The equivariance and the invariance error of every stage, at each magnitude of a transformation g.

    With phi(x) a stage's features of image x and |.| the Euclidean norm over one image's features,

      `<name>/equivariance_error` = mean over x of |phi(gx) - g phi(x)| / |g phi(x)|,
      `<name>/invariance_error`   = mean over x of |phi(gx) - phi(x)|, over the mean of |phi(x) - phi(x')|

    (Lenc and Vedaldi 2015 on equivariance; for the invariance error x' is the image after x in its batch, in a circle:
    the images should come in random order). Both are 0 at magnitude 0 and have no unit; an invariance error of 1 means
    that an image differs from its transformed self as from another image. Intervals are over images; the invariance
    error's take its denominator as known.

    A geometric g (one of `GEOMETRIC`) acts on a stage's grid as on the image: a stage's positions lie in the middle of
    their receptive fields, one stride apart, so that a shift by whole strides is one by whole positions (see
    `cnnjax.analysis.grids`). Where g fills the border with zeros, these are black pixels in the image but zeros among
    the features, the standardised images at stage `input` among them, whose error is what this alone makes. Where g
    wraps around, features do so at the ends of their own grid, which without padding is shorter than the image. Other
    g and stages without a grid have only the invariance error. If g phi(x) is zero, the image's equivariance error is
    0 if phi(gx) is zero too and 1 otherwise. A stage that is the same for all images has the invariance error 0, or
    infinity if the transformation changes it.

    Args:
      sweep: what is shown, two images at a time at least.

    Raises:
      ValueError: for less than two images in all or in a batch; see `walk` too.
    """
    return walk(sweep, tally)[0]


def tally(sweep: Sweep) -> Tally:
    """`equivariance_errors` in a walk with other measures."""
    if min(len(sweep.images), sweep.batch_size) < 2:
        raise ValueError(
            f"the distance between images needs two at least, in all and in a batch; given {len(sweep.images)} images "
            f"and batches of {sweep.batch_size}"
        )
    grids = tuple(stage_grids(sweep.subject, sweep.images.shape[1:]).items()) if is_geometric(sweep.name) else ()

    def gather(so_far: Errors | None, batch: Batch, moved: Outputs, magnitude: np.float32) -> Errors:
        return (*(so_far or ()), _errors(batch.outputs, moved, magnitude, sweep.name, grids))

    def close(errors: Errors, batch: Batch) -> tuple[Any, ...]:
        counted = np.asarray(batch.mask)
        over_magnitudes = jax.tree.map(lambda *each: np.stack(each, axis=1), *errors)
        whole = (*over_magnitudes, *_distances(batch.outputs, batch.numbers))
        return jax.tree.map(lambda values: moments_of(np.asarray(values)[counted]), whole)

    def findings(total: tuple[Any, ...]) -> list[Finding]:
        equivariance, invariance, distance, counts = total
        found = []
        for stage in sweep.subject.stages:
            if stage in equivariance:
                found += _findings(sweep, "equivariance_error", stage, equivariance[stage], 1.0)
            between = float(distance[stage].mean / counts.mean)
            found += _findings(sweep, "invariance_error", stage, invariance[stage], between)
        return found

    return Tally(gather, close, findings)


def is_geometric(name: str) -> bool:
    """Whether the transformation, with whatever settings, is one of `GEOMETRIC`."""
    return find(name).name in GEOMETRIC


def norms(features: jax.Array) -> jax.Array:
    """The Euclidean norm of each example [N, ...]: [N]."""
    return jnp.sqrt(jnp.sum(jnp.square(features.reshape(len(features), -1)), axis=1))


def relative(error: jax.Array, size: jax.Array) -> jax.Array:
    """error / size [N], both at least 0; where the size is 0, it is 0 if the error is too and 1 otherwise."""
    return jnp.where(size > 0, error / jnp.where(size > 0, size, 1), jnp.sign(error))


@functools.partial(jax.jit, static_argnames=("name", "grids"))
def _errors(
    before: dict[str, jax.Array], after: dict[str, jax.Array], magnitude: jax.Array, name: str, grids: Grids
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    equivariance = {}
    for stage, grid in grids:
        moved = act_on_grid(name, before[stage], magnitude, grid)
        equivariance[stage] = relative(norms(after[stage] - moved), norms(moved))
    return equivariance, {stage: norms(after[stage] - features) for stage, features in before.items()}


@jax.jit
def _distances(before: dict[str, jax.Array], numbers: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
    """How far each image lies from the next, and whether that is another one; behind a last batch's only image comes
    its own copy."""
    apart = {stage: norms(features - jnp.roll(features, -1, axis=0)) for stage, features in before.items()}
    return apart, numbers != jnp.roll(numbers, -1)


def _findings(sweep: Sweep, metric: str, stage: str, errors: Moments, divisor: float) -> list[Finding]:
    findings = []
    for magnitude, *values in zip(sweep.magnitudes, errors.mean, *errors.interval(), strict=True):
        if divisor > 0:
            value, low, high = (float(value / divisor) for value in values)
        else:
            value = low = high = 0.0 if values[0] == 0 else float("inf")
        findings.append(Finding(f"{sweep.name}/{metric}", value, stage, float(magnitude), low, high))
    return findings
