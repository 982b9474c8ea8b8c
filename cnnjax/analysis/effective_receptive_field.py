"""How much each pixel matters to the unit in the middle of a stage (Luo 2016)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import group_weights, jackknife, sums
from cnnjax.analysis.subject import INPUT, Subject, check_stages, stage_outputs
from cnnjax.analysis.transformed import numbered


def effective_receptive_field(
    subject: Subject, images: np.ndarray, *, stages: tuple[str, ...] | None = None, batch_size: int = 256
) -> tuple[list[Finding], dict[str, np.ndarray]]:
    """The effective receptive field of each stage: its map, and `effective_receptive_field`, its size in pixels.

    The map at position p is the mean over images of

        sum over input channels c of |d (sum over channels of the output's middle unit) / d input[p, c]|

    (Luo 2016, "Understanding the effective receptive field", section 2), the input being standardised and the middle
    position size // 2 along each dimension. The finding is sigma, the map's standard deviation along a dimension about
    its own mean (`map_deviation`), in pixels, as the root of the mean over dimensions of sigma^2. Behind n layers with
    uniform kernels of size k and stride 1 it is sqrt(n (k^2 - 1) / 12), and grows as the root of depth where the
    theoretical field grows as depth. Where no pixel matters on any image, as behind a dead unit, it is NaN. A map that
    wraps around a circular border is measured as if it did not. Its interval is that of the jackknife over groups of
    images.

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units.
      stages: those to be measured; by default all whose output is a grid, but for the input.
      batch_size: images at a time.

    Returns:
      One finding for each stage, and the maps by stage, float64 [*spatial], >= 0.

    Raises:
      ValueError: for a stage that is not there or whose output is not a grid, naming those that are.
    """
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), np.float32)
    shapes = jax.eval_shape(stage_outputs, subject, one)
    grids = tuple(stage for stage in shapes if len(shapes[stage].shape) == images.ndim and stage != INPUT)
    chosen = grids if stages is None else stages
    check_stages(subject, chosen)
    if not set(chosen) <= {INPUT, *grids}:
        raise ValueError(
            f"stages {', '.join(chosen)}: those with a grid of positions are: {', '.join((INPUT, *grids))}"
        )

    def of_batch(mask: jax.Array, rows: jax.Array, numbers: jax.Array) -> tuple[jax.Array, np.ndarray]:
        weights = group_weights(mask, numbers)
        return _absolute_gradients(subject, rows, weights, stages=chosen), weights.sum(axis=1)

    grouped, examples = sums(of_batch, (images, numbered(images)), batch_size)
    maps = dict(zip(chosen, grouped.sum(axis=0) / len(images), strict=True))
    sizes = jackknife(_sizes, grouped, examples)
    found = zip(chosen, sizes.mean, *sizes.interval(), strict=True)
    return [
        Finding("effective_receptive_field", float(size), stage, None, float(low), float(high))
        for stage, size, low, high in found
    ], maps


def _sizes(maps: np.ndarray) -> np.ndarray:
    """Of each stage's map [S, *spatial], the deviation along a dimension: [S]."""
    return np.array([np.sqrt(np.mean(map_deviation(weights) ** 2)) for weights in maps])


def map_deviation(weights: np.ndarray) -> np.ndarray:
    """The standard deviation of position along each dimension, in pixels, float64 [dimensions].

    Args:
      weights: of positions, [*spatial], >= 0; they need not add up to 1. All 0 give NaN.
    """
    deviations = []
    for axis in range(weights.ndim):
        share = weights.sum(axis=tuple(other for other in range(weights.ndim) if other != axis))
        if share.sum() == 0:
            return np.full(weights.ndim, np.nan)
        share, places = share / share.sum(), np.arange(len(share))
        deviations.append(np.sqrt(np.sum(share * (places - np.sum(share * places)) ** 2)))
    return np.array(deviations)


@functools.partial(jax.jit, static_argnames="stages")
def _absolute_gradients(subject: Subject, images: jax.Array, weights: jax.Array, stages: tuple[str, ...]) -> jax.Array:
    """The sum over the images of each group, by weights [G, N], of each stage's map: [G, S, *spatial]."""

    def middles(pixels: jax.Array) -> jax.Array:
        outputs = stage_outputs(subject, pixels)
        return jnp.stack([_middle(outputs[stage]).sum() for stage in stages])

    with jax.default_matmul_precision("highest"):
        _, pull = jax.vjp(middles, images.astype(jnp.float32))

        # One after another: a backward pass of all stages at once would hold as many activations as there are stages.
        def one_stage(direction: jax.Array) -> jax.Array:
            # With respect to the standardised input, not to pixels.
            (gradient,) = pull(direction)
            sizes = jnp.abs(gradient * jnp.asarray(subject.std)).sum(-1)
            return jnp.einsum("n...,gn->g...", sizes, weights, precision=jax.lax.Precision.HIGHEST)

        return jnp.moveaxis(jax.lax.map(one_stage, jnp.eye(len(stages))), 0, 1)


def _middle(outputs: jax.Array) -> jax.Array:
    """The unit in the middle of a grid [N, *positions, C], as [N, C]."""
    return outputs[(slice(None), *(size // 2 for size in outputs.shape[1:-1]))]
