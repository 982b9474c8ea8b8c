"""How many units of a stage work at all, and how sparsely."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import Moments, moments
from cnnjax.analysis.subject import Subject, check_stages, stage_outputs

Images = dict[str, jax.Array]
"""Of one stage, for each image of a batch: what its sparsity is computed from."""


def activity(
    subject: Subject, images: np.ndarray, *, stages: tuple[str, ...] | None = None, batch_size: int = 256
) -> list[Finding]:
    """Dead units and sparsity of each stage. A unit is a channel of a grid, or a value of a vector.

    `dead_units`: the share of units that are above 0 nowhere on any image, in 0 ... 1: behind a ReLU they pass no
    gradient on. `zero_share`: the mean over images of the share of the stage's outputs that are exactly 0 (Glorot 2011,
    "Deep sparse rectifier neural networks"), in 0 ... 1, with its interval over images.

    `sparseness`: lifetime sparseness (Rolls and Tovee 1995, Treves and Rolls 1991; scaled to 0 ... 1 by Vinje and
    Gallant 2000), the mean over the units that are not dead of

        (1 - (mean r)^2 / mean r^2) / (1 - 1 / n),

    where r >= 0 are a unit's n responses, on all images at all positions: 0 if they are all the same, 1 if all but one
    are 0. Negative outputs, such as a head has, count as a response of 0. It is NaN if all units are dead, or n is 1.

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
    measured = moments(functools.partial(_responses, subject, stages=chosen), (images,), batch_size)
    return [finding for stage in chosen for finding in _findings(stage, **measured[stage])]


@functools.partial(jax.jit, static_argnames="stages")
def _responses(subject: Subject, images: jax.Array, stages: tuple[str, ...]) -> dict[str, Images]:
    outputs = stage_outputs(subject, images)
    return {stage: _responses_of(outputs[stage]) for stage in stages}


def _responses_of(outputs: jax.Array) -> Images:
    """For each image, over the positions: of each unit [N, units], and of all together [N]."""
    flat = outputs.reshape(len(outputs), -1, outputs.shape[-1])
    responses = jnp.maximum(flat, 0)
    return {
        "alive": jnp.any(flat > 0, 1),
        "zeros": jnp.mean(flat == 0, (1, 2)),
        "response": responses.mean(1),
        "square": jnp.square(responses).mean(1),
        "positions": jnp.full(len(flat), flat.shape[1]),
    }


def _findings(
    stage: str, alive: Moments, zeros: Moments, response: Moments, square: Moments, positions: Moments
) -> list[Finding]:
    low, high = zeros.interval()
    working, count = alive.mean > 0, alive.examples * float(positions.mean)
    sparseness = np.nan
    if working.any() and count > 1:
        shares = 1 - response.mean[working] ** 2 / square.mean[working]
        sparseness = float(np.mean(shares) / (1 - 1 / count))
    return [
        Finding("dead_units", float(np.mean(~working)), stage),
        Finding("zero_share", float(zeros.mean), stage, low=float(low), high=float(high)),
        Finding("sparseness", sparseness, stage),
    ]
