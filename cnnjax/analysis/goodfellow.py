"""Whether the images that drive a unit still drive it when they are transformed."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import batches, sums
from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.analysis.transformed import numbered, transformed_outputs
from cnnjax.ops.keys import fold_in_name

ONE_FIRES_IN = 100
"""Images, of which a unit fires on one."""

BEST_UNITS = 0.2
"""The share of a stage's units that its score averages."""

Arrays = dict[str, jax.Array]


def goodfellow_scores(
    subject: Subject,
    images: np.ndarray,
    name: str,
    magnitudes: Sequence[float] | np.ndarray,
    key: jax.Array,
    batch_size: int = 256,
    *,
    strongest: int = 5,
    units: int = 1024,
) -> list[Finding]:
    """The invariance score of every stage (Goodfellow, Le, Saxe, Lee and Ng 2009, "Measuring invariances in deep
    networks"), in two forms.

    A unit h (one feature at one place) fires on image x when s h(x) > t, s being 1 or -1. t is set on the untouched
    images, so that the unit fires on K = floor(N / 100) of these, or on fewer where activations are equal. Its score
    is a local over a global firing rate, for the s with which that is the greater; the stage's score is the mean of
    its best 20% of units.

    `<name>/goodfellow_top`: the original. Local is the share of (image, magnitude) at which the unit fires, over the
      images that drive it most: the `strongest` of those it fires on, each taken along all magnitudes. Global is K / N,
      about 1%. An invariant unit scores N / K, about 100, and one whose response to a transformed image is that to any
      image 1.
    `<name>/goodfellow_whole`: local is the share of (image, magnitude) at which it fires over all images, global that
      of the untouched images on which it fires (as in the package `tmeasures` of Quiroga and others). An invariant unit
      scores 1; less if the transformation silences it, more if it drives it. A unit may score 1 without being
      invariant: firing on other images at each magnitude, but on as many.

    A unit that never fires scores 0. The scores are at least 0, without unit and interval. Everything is counted in
    two passes over the images; the memory grows with K, as each unit's greatest activations are kept for its threshold.

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units; 100 at least.
      name: of the transformation.
      magnitudes: in its unit, [M]: the images' trajectory.
      key: what a random transformation draws from, and the units.
      batch_size: images at a time.
      strongest: images for each unit in the original form; K where that is less.
      units: of a stage with more, so many are drawn and scored.

    Raises:
      ValueError: for less than 100 images, no magnitudes, or `strongest` or `units` below 1; see `transformed` too.
    """
    firing = len(images) // ONE_FIRES_IN
    if min(firing, strongest, units, len(magnitudes)) < 1:
        raise ValueError(
            f"to fire on 1% needs {ONE_FIRES_IN} images at least, and one magnitude, strongest image and unit; "
            f"given {len(images)}, {len(magnitudes)}, {strongest} and {units}"
        )
    places = _drawn_units(subject, images, key, units)

    def activations(images: jax.Array, numbers: jax.Array, magnitude: float) -> Arrays:
        outputs = transformed_outputs(subject, images, numbers, np.float32(magnitude), key, name)
        return _signed(outputs, places)

    greatest = {stage: jnp.full((2, len(place), firing + 1), -jnp.inf) for stage, place in places.items()}
    for mask, rows, numbers in batches((images, numbered(images)), batch_size):
        greatest = _keep_greatest(greatest, mask, activations(rows, numbers, 0.0))
    thresholds = {stage: kept[..., firing] for stage, kept in greatest.items()}
    driving = {stage: kept[..., min(strongest, firing) - 1] for stage, kept in greatest.items()}

    def count(mask: jax.Array, images: jax.Array, numbers: jax.Array) -> Any:
        untouched = activations(images, numbers, 0.0)
        local = [
            _count(thresholds, driving, mask, untouched, activations(images, numbers, magnitude))
            for magnitude in magnitudes
        ]
        return _count(thresholds, driving, mask, untouched, untouched), jax.tree.map(lambda *each: sum(each), *local)

    at_rest, along = sums(count, (images, numbered(images)), batch_size)
    findings = []
    for stage in subject.stages:
        for form, rate in (("top", firing / len(images)), ("whole", 1.0)):
            fired, images_fired = along[form][stage], at_rest[form][stage]
            kept = np.where(images_fired > 0, fired / np.maximum(images_fired, 1), 0) / len(magnitudes)
            findings.append(Finding(f"{name}/goodfellow_{form}", _best(kept / rate), stage))
    return findings


def _drawn_units(subject: Subject, images: np.ndarray, key: jax.Array, units: int) -> dict[str, np.ndarray]:
    """For each stage the places of the units scored among all, in order: int [U]."""
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), np.float32)
    places = {}
    for stage, output in jax.eval_shape(stage_outputs, subject, one).items():
        generator = np.random.default_rng(np.asarray(jax.random.key_data(fold_in_name(key, stage))))
        places[stage] = np.sort(generator.permutation(output.size)[:units])
    return places


def _best(scores: np.ndarray) -> float:
    """A stage's score from its units' [2, U], one for each sign."""
    ordered = np.sort(scores.max(axis=0))[::-1]
    return float(ordered[: math.ceil(BEST_UNITS * len(ordered))].mean())


@jax.jit
def _signed(outputs: Arrays, places: dict[str, jax.Array]) -> Arrays:
    """The units' activations times 1 and -1: [2, N, U]."""
    chosen = {stage: output.reshape(len(output), -1)[:, places[stage]] for stage, output in outputs.items()}
    return {stage: jnp.stack([values, -values]) for stage, values in chosen.items()}


@jax.jit
def _keep_greatest(greatest: Arrays, mask: jax.Array, activations: Arrays) -> Arrays:
    """The greatest activations so far [2, U, K + 1], in descending order, with those of a batch [2, N, U]."""
    kept = {}
    for stage, values in activations.items():
        new = jnp.where(mask[:, None], values, -jnp.inf).swapaxes(1, 2)
        kept[stage] = jax.lax.top_k(jnp.concatenate([greatest[stage], new], axis=2), greatest[stage].shape[2])[0]
    return kept


@jax.jit
def _count(thresholds: Arrays, driving: Arrays, mask: jax.Array, untouched: Arrays, moved: Arrays) -> dict[str, Arrays]:
    """On how many images of a batch each unit fires when they are moved, of all and of those that drive it most:
    [2, U]."""
    top, whole = {}, {}
    for stage, threshold in thresholds.items():
        fires = mask[:, None] & (moved[stage] > threshold[:, None])
        drives = (untouched[stage] > threshold[:, None]) & (untouched[stage] >= driving[stage][:, None])
        whole[stage] = fires.sum(axis=1)
        top[stage] = (fires & drives).sum(axis=1)
    return {"top": top, "whole": whole}
