"""Whether the images that drive a unit still drive it when they are transformed."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import batches, group_weights, jackknife
from cnnjax.analysis.sweep import Batch, Outputs, Sweep, Tally, walk
from cnnjax.analysis.transformed import transformed_outputs
from cnnjax.analysis.units import chosen_units, drawn_units

ONE_FIRES_IN = 100
"""Images, of which a unit fires on one."""

REFERENCE = 10_000
"""Images at most, the first ones, on which the thresholds are set."""

BEST_UNITS = 0.2
"""The share of a stage's units that its score averages."""

FORMS = ("top", "whole")

Arrays = Mapping[str, np.ndarray | jax.Array]
"""By stage."""

Counts = dict[str, dict[str, jax.Array]]
"""By form and stage."""


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Of each stage's units and their negatives, from the untouched images.

    Attributes:
      places: the units' places in the stage's flattened output, int [U].
      fires: above which each fires, [2, U].
      drives: from which on an image is one of those that drive it most, [2, U].
      rate: the share of the images on which it fires, where no activations are equal.
    """

    places: dict[str, np.ndarray]
    fires: Arrays
    drives: Arrays
    rate: float


def goodfellow_scores(sweep: Sweep, *, strongest: int = 5, units: int = 1024) -> list[Finding]:
    """The invariance score of every stage (Goodfellow, Le, Saxe, Lee and Ng 2009, "Measuring invariances in deep
    networks"), in two forms.

    A unit h (one feature at one place) fires on image x when s h(x) > t, s being 1 or -1. t is set on the R untouched
    images (of more than `REFERENCE`, on the first of them), so that the unit fires on K = floor(R / 100) of these, or
    on fewer where activations are equal. Its score is a local over a global firing rate, for the s with which that is
    the greater; the stage's score is the mean of its best 20% of units.

    `<name>/goodfellow_top`: the original. Local is the share of (image, magnitude) at which the unit fires, over the
      images that drive it as much as the `strongest` of those R, of those it fires on, each taken along all
      magnitudes. Global is K / R, about 1%. An invariant unit scores R / K, about 100, and one whose response to a
      transformed image is that to any image 1.
    `<name>/goodfellow_whole`: local is the share of (image, magnitude) at which it fires over all images, global that
      of the untouched images on which it fires (as in the package `tmeasures` of Quiroga and others). An invariant unit
      scores 1; less if the transformation silences it, more if it drives it. A unit may score 1 without being
      invariant: firing on other images at each magnitude, but on as many.

    A unit that never fires scores 0. The scores are at least 0, without unit. The intervals are those of the jackknife
    over groups of images, the thresholds being taken as known. Memory grows with the number of units.

    Args:
      sweep: what is shown: 100 images at least, with a key, which the units are drawn from too.
      strongest: images for each unit in the original form; K where that is less.
      units: of a stage with more, so many are drawn and scored.

    Raises:
      ValueError: for less than 100 images, no key, or `strongest` or `units` below 1; see `walk` too.
    """
    return walk(sweep, functools.partial(tally, strongest=strongest, units=units))[0]


def tally(sweep: Sweep, *, strongest: int = 5, units: int = 1024) -> Tally:
    """`goodfellow_scores` in a walk with other measures; the untouched images are seen once more, before it."""
    thresholds = _thresholds(sweep, strongest, units)

    def count(batch: Batch, outputs: Outputs) -> Counts:
        weights = group_weights(batch.mask, batch.numbers)
        return _count(thresholds.fires, thresholds.drives, thresholds.places, batch.outputs, outputs, weights)

    def gather(so_far: Counts | None, batch: Batch, moved: Outputs, magnitude: np.float32) -> Counts:
        counted = count(batch, moved)
        return counted if so_far is None else _added(so_far, counted)

    def close(moved: Counts, batch: Batch) -> dict[str, Any]:
        examples = group_weights(batch.mask, batch.numbers).sum(axis=1)
        return {"moved": moved, "at rest": count(batch, batch.outputs), "examples": examples}

    def findings(total: dict[str, Any]) -> list[Finding]:
        stages, steps = sweep.subject.stages, len(sweep.magnitudes)
        found = jackknife(lambda added: _scores(added, stages, steps, thresholds.rate), total, total["examples"])
        numbers = zip(found.mean, *found.interval(), strict=True)
        return [
            Finding(f"{sweep.name}/goodfellow_{form}", float(value), stage, None, float(low), float(high))
            for (stage, form), (value, low, high) in zip(itertools.product(stages, FORMS), numbers, strict=True)
        ]

    return Tally(gather, close, findings)


def _thresholds(sweep: Sweep, strongest: int, units: int) -> Thresholds:
    """One pass over the untouched images, which keeps each unit's greatest activations."""
    examples = min(len(sweep.images), REFERENCE)
    firing = examples // ONE_FIRES_IN
    if min(firing, strongest, units) < 1 or sweep.key is None:
        raise ValueError(
            f"to fire on 1% needs {ONE_FIRES_IN} images at least, one strongest image and unit, and a key; given "
            f"{examples}, {strongest}, {units} and {'no' if sweep.key is None else 'a'} key"
        )
    places = drawn_units(sweep.subject, sweep.images.shape[1:], sweep.key, units)
    greatest: Arrays = {
        stage: jnp.full((2, len(place), firing + 1), -np.inf, jnp.float32) for stage, place in places.items()
    }
    for mask, numbers in batches((np.arange(examples, dtype=np.int32),), sweep.batch_size):
        shown = jnp.asarray(sweep.images[numbers]), jnp.asarray(numbers)
        outputs = transformed_outputs(sweep.subject, *shown, np.float32(0), sweep.key, sweep.name)
        greatest = _keep_greatest(greatest, places, mask, outputs)
    fires, drives = (
        {stage: np.asarray(kept)[..., place] for stage, kept in greatest.items()}
        for place in (firing, min(strongest, firing) - 1)
    )
    return Thresholds(places, fires, drives, firing / examples)


def _scores(total: dict[str, Any], stages: tuple[str, ...], steps: int, rate: float) -> np.ndarray:
    """The score of each stage in each form [2 S], from counts over images."""
    scores = []
    for stage, form in itertools.product(stages, FORMS):
        fired, images_fired = total["moved"][form][stage], total["at rest"][form][stage]
        local = np.where(images_fired > 0, fired / np.maximum(images_fired, 1), 0) / steps
        ordered = np.sort((local / (rate if form == "top" else 1.0)).max(axis=0))[::-1]
        scores.append(ordered[: math.ceil(BEST_UNITS * len(ordered))].mean())
    return np.array(scores)


def _signed(outputs: Arrays, places: Arrays) -> Arrays:
    """The units' activations times 1 and -1: [2, N, U]."""
    return {stage: jnp.stack([values, -values]) for stage, values in chosen_units(outputs, places).items()}


@jax.jit
def _keep_greatest(greatest: Arrays, places: Arrays, mask: jax.Array, outputs: Arrays) -> Arrays:
    """The greatest activations so far [2, U, K + 1], in descending order, with those of a batch."""
    kept = {}
    for stage, values in _signed(outputs, places).items():
        new = jnp.where(mask[:, None], values, -jnp.inf).swapaxes(1, 2)
        kept[stage] = jax.lax.top_k(jnp.concatenate([greatest[stage], new], axis=2), greatest[stage].shape[2])[0]
    return kept


@jax.jit
def _added(one: Counts, other: Counts) -> Counts:
    return jax.tree.map(jnp.add, one, other)


@jax.jit
def _count(
    fires: Arrays, drives: Arrays, places: Arrays, untouched: Outputs, moved: Outputs, weights: np.ndarray
) -> Counts:
    """On how many images of each group a unit fires when they are moved, of all and of those that drive it most:
    [groups, 2, U]."""
    before, after = _signed(untouched, places), _signed(moved, places)
    counts: Counts = {form: {} for form in FORMS}
    for stage, threshold in fires.items():
        firing = after[stage] > threshold[:, None]
        driving = (before[stage] > threshold[:, None]) & (before[stage] >= drives[stage][:, None])
        for form, counted in (("top", firing & driving), ("whole", firing)):
            counts[form][stage] = jnp.einsum("gn,snu->gsu", weights, counted.astype(jnp.float32))
    return counts
