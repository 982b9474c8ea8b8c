"""How much of a stage's variation is due to the transformation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import group_weights, jackknife
from cnnjax.analysis.sweep import Batch, Outputs, Sweep, Tally, walk
from cnnjax.analysis.transformed import transformed_outputs
from cnnjax.analysis.units import chosen_units, drawn_units

UNITS = 4096
"""Of a stage with more, so many are drawn."""

Sums = tuple[Outputs, Outputs, Outputs, list[Outputs]]
"""Of a batch, by stage: the sums over the magnitudes so far of what the transformation changes and of its squares, for
each image [B, U]; the sum over them and the images of the squared activations, and at each one the sum over the images
of the activations, both by group [groups, U]."""


def normalised_variance(sweep: Sweep) -> list[Finding]:
    """The variance along a transformation over that along the images, of every stage (Quiroga, Torrents-Barrena,
    Lanzarini and Puig 2023, "Invariance measures for neural networks": normalised variance).

    With a_ij a unit's activation for image i (of N) at magnitude j (of M), and sample variances (over M - 1, N - 1),

      `<name>/normalised_variance` = mean over i of (variance over j of a_ij) / mean over j of (variance over i),

    averaged over the stage's units: every feature at every place is one, and of more than `UNITS` so many are drawn. It
    is 0 for an invariant stage, and 1 if the transformation changes an activation as much as another image does; no
    unit. Units that never vary are left out; a stage of none but those has NaN. The interval is that of the jackknife
    over groups of images. Magnitude 0 counts as one only where it is among them.

    The memory grows with M and the number of units, not with N.

    Args:
      sweep: what is shown, at two magnitudes at least.

    Raises:
      ValueError: for less than two images or magnitudes; see `walk` too.
    """
    return walk(sweep, tally)[0]


def tally(sweep: Sweep) -> Tally:
    """`normalised_variance` in a walk with other measures."""
    examples, steps = len(sweep.images), len(sweep.magnitudes)
    if min(examples, steps) < 2:
        raise ValueError(f"a variance needs two images and magnitudes at least; given {examples} and {steps}")
    key = jax.random.key(0) if sweep.key is None else sweep.key
    places = drawn_units(sweep.subject, sweep.images.shape[1:], key, UNITS)
    # Sums of squares about a value that occurs lose no digits to a large mean.
    first = jnp.asarray(np.repeat(sweep.images[:1], sweep.batch_size, axis=0))
    numbers = jnp.zeros(sweep.batch_size, jnp.int32)
    outputs = transformed_outputs(sweep.subject, first, numbers, np.float32(0), sweep.key, sweep.name)
    centre = {stage: np.asarray(outputs[stage])[0].ravel()[place] for stage, place in places.items()}

    def gather(so_far: Sums | None, batch: Batch, moved: Outputs, magnitude: np.float32) -> Sums:
        weights = group_weights(batch.mask, batch.numbers)
        change, change_square, square, total = _gathered(batch.outputs, moved, places, centre, weights)
        if so_far is None:
            return change, change_square, square, [total]
        return (*_added(so_far[:3], (change, change_square, square)), [*so_far[3], total])

    def close(gathered: Sums, batch: Batch) -> dict[str, Any]:
        change, change_square, square, totals = gathered
        weights = group_weights(batch.mask, batch.numbers)
        return {
            "along": _variance_along(change, change_square, weights, steps),
            "square": square,
            "total": jax.tree.map(lambda *each: np.stack(each, axis=1), *totals),
            "examples": weights.sum(axis=1),
        }

    def findings(total: dict[str, Any]) -> list[Finding]:
        found = jackknife(lambda added: _of_stages(added, sweep.subject.stages, steps), total, total["examples"])
        return [
            Finding(f"{sweep.name}/normalised_variance", float(value), stage, None, float(low), float(high))
            for stage, value, low, high in zip(sweep.subject.stages, found.mean, *found.interval(), strict=True)
        ]

    return Tally(gather, close, findings)


def _of_stages(total: dict[str, Any], stages: tuple[str, ...], steps: int) -> np.ndarray:
    """The measure of each stage, from sums over images."""
    examples = total["examples"]
    values = []
    for stage in stages:
        along = total["along"][stage] / examples
        left = total["square"][stage] - np.sum(total["total"][stage] ** 2, axis=0) / examples
        across = np.maximum(left, 0) / ((examples - 1) * steps) if examples > 1 else np.full_like(left, np.nan)
        values.append(_mean_quotient(along, across))
    return np.array(values)


def _mean_quotient(along: np.ndarray, across: np.ndarray) -> float:
    """The mean over units of along / across, those left out where both are 0."""
    vary = (along > 0) | (across > 0)
    if not vary.any():
        return float("nan")
    with np.errstate(divide="ignore"):
        return float(np.mean(along[vary] / across[vary]))


@jax.jit
def _gathered(
    untouched: Outputs, moved: Outputs, places: Outputs, centre: Outputs, weights: np.ndarray
) -> tuple[Outputs, Outputs, Outputs, Outputs]:
    """What one magnitude adds to the parts of `Sums`."""
    before, after = chosen_units(untouched, places), chosen_units(moved, places)
    change = jax.tree.map(jnp.subtract, after, before)
    about = jax.tree.map(jnp.subtract, after, centre)
    squares = {stage: _by_group(weights, values**2) for stage, values in about.items()}
    totals = {stage: _by_group(weights, values) for stage, values in about.items()}
    return change, jax.tree.map(jnp.square, change), squares, totals


@jax.jit
def _added(one: tuple[Outputs, ...], other: tuple[Outputs, ...]) -> tuple[Outputs, ...]:
    return jax.tree.map(jnp.add, one, other)


@jax.jit
def _variance_along(change: Outputs, square: Outputs, weights: np.ndarray, steps: int) -> Outputs:
    """The sum over the images of each group of the variance over magnitudes, [groups, U]."""
    variances = jax.tree.map(lambda total, left: (left - total**2 / steps) / (steps - 1), change, square)
    return {stage: _by_group(weights, jnp.maximum(variance, 0)) for stage, variance in variances.items()}


def _by_group(weights: np.ndarray, values: jax.Array) -> jax.Array:
    """The sums [groups, U] over images of values [B, U], weighted [groups, B]."""
    return jnp.matmul(weights, values, precision=jax.lax.Precision.HIGHEST)
