"""How much of a stage's variation is due to the transformation."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import sums
from cnnjax.analysis.subject import Subject
from cnnjax.analysis.transformed import numbered, transformed_outputs

Sums = dict[str, tuple[jax.Array, jax.Array]]


def normalised_variance(
    subject: Subject,
    images: np.ndarray,
    name: str,
    magnitudes: Sequence[float] | np.ndarray,
    key: jax.Array | None = None,
    batch_size: int = 256,
) -> list[Finding]:
    """The variance along a transformation over that along the images, of every stage (Quiroga, Torrents-Barrena,
    Lanzarini and Puig 2023, "Invariance measures for neural networks": normalised variance).

    With a_ij a unit's activation for image i (of N) at magnitude j (of M), and sample variances (over M - 1, N - 1),

      `<name>/normalised_variance` = mean over i of (variance over j of a_ij) / mean over j of (variance over i),

    averaged over the stage's units: every feature at every place is one. It is 0 for an invariant stage, and 1 if
    the transformation changes an activation as much as another image does; no unit. Units that never vary are left
    out; a stage of none but those has NaN. It has no interval, being a quotient of sums over all images.

    The memory grows with the stages' sizes times M, not with N.

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units.
      name: of the transformation.
      magnitudes: in its unit, [M]: the set of transformations; 0 counts as one only where it is among them.
      key: what a random transformation draws from: each image once, for all magnitudes.
      batch_size: images at a time.

    Raises:
      ValueError: for less than two images or magnitudes; see `transformed` too.
    """
    examples, steps = len(images), len(magnitudes)
    if min(examples, steps) < 2:
        raise ValueError(f"a variance needs two images and magnitudes at least; given {examples} and {steps}")
    first = jnp.asarray(np.repeat(images[:1], batch_size, axis=0))
    outputs = transformed_outputs(subject, first, jnp.zeros(batch_size, jnp.int32), np.float32(0), key, name)
    # Sums of squares about a value that occurs lose no digits to a large mean.
    centre = {stage: features[0] for stage, features in outputs.items()}

    def measure(mask: jax.Array, images: jax.Array, numbers: jax.Array) -> Any:
        untouched = transformed_outputs(subject, images, numbers, np.float32(0), key, name)
        along: Sums = {stage: (jnp.zeros_like(f), jnp.zeros_like(f)) for stage, f in untouched.items()}
        across = []
        for magnitude in map(np.float32, magnitudes):
            moved = transformed_outputs(subject, images, numbers, magnitude, key, name)
            along = _add_along(along, untouched, moved)
            across.append(_sum_across(mask, centre, moved))
        totals = jax.tree.map(lambda *each: np.stack(each).astype(np.float64), *[total for total, _ in across])
        squares = jax.tree.map(lambda *each: np.sum(each, axis=0, dtype=np.float64), *[square for _, square in across])
        return _variance_along(mask, along, steps), totals, squares

    transformed_variance, totals, squares = sums(measure, (images, numbered(images)), batch_size)
    findings = []
    for stage in subject.stages:
        along = transformed_variance[stage] / examples
        left = squares[stage] - np.sum(totals[stage] ** 2, axis=0) / examples
        across = np.maximum(left, 0) / ((examples - 1) * steps)
        findings.append(Finding(f"{name}/normalised_variance", _mean_quotient(along, across), stage))
    return findings


def _mean_quotient(along: np.ndarray, across: np.ndarray) -> float:
    """The mean over units of along / across, those left out where both are 0."""
    vary = (along > 0) | (across > 0)
    if not vary.any():
        return float("nan")
    with np.errstate(divide="ignore"):
        return float(np.mean(along[vary] / across[vary]))


@jax.jit
def _add_along(along: Sums, untouched: dict[str, jax.Array], moved: dict[str, jax.Array]) -> Sums:
    """The sums over magnitudes, for each image, of what the transformation changes and of its squares."""
    changes = {stage: moved[stage] - features for stage, features in untouched.items()}
    return {stage: (along[stage][0] + change, along[stage][1] + change**2) for stage, change in changes.items()}


@jax.jit
def _variance_along(mask: jax.Array, along: Sums, steps: int) -> dict[str, jax.Array]:
    """The sum over images of the variance over magnitudes."""
    variances = {stage: (square - total**2 / steps) / (steps - 1) for stage, (total, square) in along.items()}
    return {stage: _masked_sum(mask, jnp.maximum(variance, 0)) for stage, variance in variances.items()}


@jax.jit
def _sum_across(
    mask: jax.Array, centre: dict[str, jax.Array], moved: dict[str, jax.Array]
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The sums over images, at one magnitude, of the features about a centre and of their squares."""
    about = {stage: features - centre[stage] for stage, features in moved.items()}
    totals = {stage: _masked_sum(mask, value) for stage, value in about.items()}
    squares = {stage: _masked_sum(mask, value**2) for stage, value in about.items()}
    return totals, squares


def _masked_sum(mask: jax.Array, values: jax.Array) -> jax.Array:
    """The sum over those of the images [N, ...] that the mask keeps."""
    return jnp.tensordot(mask.astype(jnp.float32), values, 1, precision=jax.lax.Precision.HIGHEST)
