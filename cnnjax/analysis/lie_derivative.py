"""How fast each stage's features begin to differ from moving with the image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.equivariance import norms, relative
from cnnjax.analysis.findings import Finding
from cnnjax.analysis.grids import Grids, stage_grids
from cnnjax.analysis.streaming import moments
from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.ops.transformations.table import act_on_grid, find, transformation

GROUPS = ("translation", "rotation", "scale", "shear", "shift", "stretch")
"""The transformations that undo themselves at the negative magnitude: g_s g_t = g_(s + t)."""


def is_group(name: str) -> bool:
    """Whether the transformation, with whatever settings, is one of `GROUPS`."""
    return find(name).name in GROUPS


def lie_derivative_errors(subject: Subject, images: np.ndarray, name: str, batch_size: int = 256) -> list[Finding]:
    """The Lie derivative of every stage along a group of transformations g_t (Gruver, Finzi, Goldblum and Wilson 2022,
    "The Lie derivative for measuring learned equivariance").

    With phi(x) a stage's features of image x, and |.| the Euclidean norm over one image's features,

      (L phi)(x) = d/dt at t = 0 of g_t^-1 phi(g_t x),
      `<name>/lie_derivative` = mean over x of |(L phi)(x)| / |phi(x)|,

    by forward-mode differentiation, without finite differences. It is 0 for an equivariant stage. g_t acts on a
    stage's grid as in `equivariance_errors`, and as the identity on stages without one, as the logits, so that it is 0
    for an invariant one. (Gruver and others report |L f|^2 of the logits; the relative norm compares stages and
    networks of any scale.) Where phi(x) is 0 the quotient is 0 if the derivative is too and 1 otherwise.

    Linear interpolation has at whole pixels the central difference as derivative: what is measured at the highest
    frequencies is the network's and the grid's own error together. A linear circular convolution of stride 1 commutes
    with the central difference and has 0 to rounding for any image; behind a detector 0 is only neared, as features
    become smooth.

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units.
      name: one of `GROUPS`, perhaps with settings; the number is for each unit of its magnitude: pixel, degree, octave,
        column for each row.
      batch_size: images at a time.

    Raises:
      ValueError: for another name, and images of other dimensions than it takes.
    """
    if not is_group(name):
        raise ValueError(f"there is no Lie derivative along {name!r}; there are: {', '.join(GROUPS)}")
    grids = tuple(stage_grids(subject, images.shape[1:]).items())
    derivatives = functools.partial(_relative_derivatives, subject, start=np.float32(0), name=name, grids=grids)
    found = moments(derivatives, (images,), batch_size)
    findings = []
    for stage in subject.stages:
        low, high = found[stage].interval()
        mean = float(found[stage].mean)
        findings.append(Finding(f"{name}/lie_derivative", mean, stage, None, float(low), float(high)))
    return findings


@functools.partial(jax.jit, static_argnames=("name", "grids"))
def _relative_derivatives(
    subject: Subject, images: jax.Array, *, start: jax.Array, name: str, grids: Grids
) -> dict[str, jax.Array]:
    """The relative norm of each image's Lie derivative, [N] by stage. `start` is 0: were it a constant, the compiler
    would work out all coordinates of the interpolation itself, which takes it far longer."""
    pixels = images.astype(jnp.float32)

    def there_and_back(magnitude: jax.Array) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        there = stage_outputs(subject, transformation(name)(pixels, magnitude, None))
        # At 0 the way back is the identity, so its derivative for features that stay is all that it adds (the product
        # rule); to differentiate the interpolation by the features too would take as long again.
        back = {
            stage: act_on_grid(name, jax.lax.stop_gradient(there[stage]), -magnitude, grid) for stage, grid in grids
        }
        return there, back

    (values, _), (moving, returning) = jax.jvp(there_and_back, (start,), (jnp.ones_like(start),))
    derivatives = {stage: change + returning.get(stage, 0) for stage, change in moving.items()}
    return {stage: relative(norms(derivatives[stage]), norms(values[stage])) for stage in values}
