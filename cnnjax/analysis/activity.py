"""How many units of a stage work at all, and how sparsely."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import group_weights, jackknife, moments_of, sums
from cnnjax.analysis.subject import Subject, check_stages, stage_outputs
from cnnjax.analysis.transformed import numbered

Responses = dict[str, Any]
"""Of one stage, what its activity is computed from: sums over images, and the moments of the share of zeros."""


def activity(
    subject: Subject, images: np.ndarray, *, stages: tuple[str, ...] | None = None, batch_size: int = 256
) -> list[Finding]:
    """Dead units and sparsity of each stage. A unit is a channel of a grid, or a value of a vector.

    `dead_units`: the share of units that are above 0 nowhere on any image, in 0 ... 1: behind a ReLU they pass no
    gradient on. It is of these images and has no interval. `zero_share`: the mean over images of the share of the
    stage's outputs that are exactly 0 (Glorot 2011, "Deep sparse rectifier neural networks"), in 0 ... 1, with its
    interval over images.

    `sparseness`: lifetime sparseness (Rolls and Tovee 1995, Treves and Rolls 1991; scaled to 0 ... 1 by Vinje and
    Gallant 2000), the mean over the units that are not dead of

        (1 - (mean r)^2 / mean r^2) / (1 - 1 / n),

    where r >= 0 are a unit's n responses, on all images at all positions: 0 if they are all the same, 1 if all but one
    are 0. Negative outputs, such as a head has, count as a response of 0. It is NaN if all units are dead, or n is 1.
    Its interval is that of the jackknife over groups of images.

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units.
      stages: those to be measured; all by default, the input among them.
      batch_size: images at a time.

    Returns:
      Three findings for each stage.

    Raises:
      ValueError: for a stage that is not there, naming those that are.
    """
    chosen = subject.stages if stages is None else stages
    check_stages(subject, chosen)

    def of_batch(mask: jax.Array, images: jax.Array, numbers: jax.Array) -> dict[str, Responses]:
        parts = _responses(subject, images, group_weights(mask, numbers), stages=chosen)
        zeros = {stage: moments_of(np.asarray(part["zeros"])[np.asarray(mask)]) for stage, part in parts.items()}
        return {stage: {**part, "zeros": zeros[stage]} for stage, part in parts.items()}

    found = sums(of_batch, (images, numbered(images)), batch_size)
    return [finding for stage in chosen for finding in _findings(stage, found[stage])]


@functools.partial(jax.jit, static_argnames="stages")
def _responses(
    subject: Subject, images: jax.Array, weights: np.ndarray, stages: tuple[str, ...]
) -> dict[str, Responses]:
    outputs = stage_outputs(subject, images)
    return {stage: _responses_of(outputs[stage], weights) for stage in stages}


def _responses_of(outputs: jax.Array, weights: np.ndarray) -> Responses:
    """Over the positions of outputs [N, ...]: by group and unit [groups, units], by group, and of each image [N]."""
    flat = outputs.reshape(len(outputs), -1, outputs.shape[-1])
    rectified = jnp.maximum(flat, 0)
    by_group = functools.partial(jnp.matmul, weights, precision=jax.lax.Precision.HIGHEST)
    return {
        "alive": by_group(jnp.any(flat > 0, 1).astype(jnp.float32)),
        "response": by_group(rectified.sum(1)),
        "square": by_group(jnp.square(rectified).sum(1)),
        "count": flat.shape[1] * weights.sum(1),
        "zeros": jnp.mean(flat == 0, (1, 2)),
    }


def _sparseness(total: Responses) -> np.ndarray:
    working, count = total["alive"] > 0, total["count"]
    if not working.any() or count <= 1:
        return np.asarray(np.nan)
    shares = 1 - total["response"][working] ** 2 / (count * total["square"][working])
    return np.asarray(np.mean(shares) / (1 - 1 / count))


def _findings(stage: str, responses: Responses) -> list[Finding]:
    grouped = {name: responses[name] for name in ("alive", "response", "square", "count")}
    zeros, sparseness = responses["zeros"], jackknife(_sparseness, grouped, responses["count"])
    return [
        Finding("dead_units", float(np.mean(responses["alive"].sum(axis=0) == 0)), stage),
        *(
            Finding(metric, float(found.mean), stage, None, *map(float, found.interval()))
            for metric, found in (("zero_share", zeros), ("sparseness", sparseness))
        ),
    ]
