"""Pooling over regions that are no windows: found anew in each image, or learned once for all."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.ops.geometry import per_dimension
from cnnjax.ops.pooling.adaptive import Kind, region_bounds


def nearest_centre(x: jax.Array, centres: jax.Array) -> jax.Array:
    """The centre that each position's features are nearest to (Euclidean), the first of equals.

    Args:
      x: [N, *spatial, C].
      centres: [K, C].

    Returns:
      Indices in [0, K), int32 [N, *spatial].

    Raises:
      ValueError: for centres of another shape.
    """
    if centres.ndim != 2 or centres.shape[1] != x.shape[-1]:
        raise ValueError(f"centres must be [K, {x.shape[-1]}] for features {x.shape}; given {centres.shape}")
    products = jnp.einsum("...c,kc->...k", x, centres, precision="highest")
    # The features' own squared norm is the same for all centres.
    return jnp.argmin(jnp.sum(centres**2, axis=1) - 2 * products, axis=-1)


def cluster_means(x: jax.Array, centres: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sum of the features nearest to each centre, and how many they are: a step of k-means is their quotient.

    Args:
      x: [N, *spatial, C].
      centres: [K, C].

    Returns:
      Sums [K, C], and counts [K] in the dtype of x.
    """
    features = x.reshape(-1, x.shape[-1])
    member = jax.nn.one_hot(nearest_centre(features, centres), len(centres), dtype=x.dtype)
    return jnp.einsum("pk,pc->kc", member, features, precision="highest"), member.sum(0)


def cluster_centres(x: jax.Array, centres: jax.Array, steps: int = 20) -> jax.Array:
    """k-means (Lloyd 1982): the centres that so many steps among the features of all positions lead to.

    Args:
      x: [N, *spatial, C].
      centres: where to start [K, C], such as the features of K different positions.
      steps: each moves every centre to the mean of what is nearest to it; one that nothing is nearest to stays.

    Returns:
      [K, C].
    """

    def step(_: int, centres: jax.Array) -> jax.Array:
        sums, counts = cluster_means(x, centres)
        return jnp.where(counts[:, None] > 0, sums / jnp.maximum(counts, 1)[:, None], centres)

    return jax.lax.fori_loop(0, steps, step, centres)


def dynamic_region_pool(x: jax.Array, centres: jax.Array, kind: Kind = "average") -> jax.Array:
    """Positions pooled with those whose features are alike, wherever they lie (Boureau 2011, Ask the Locals).

    Region k of an image is the positions whose features are nearest to centre k: a different set of regions for each
    image. No gradient flows through the choice of the regions.

    Args:
      x: [N, *spatial, C].
      centres: [K, C].
      kind: the summary of a region; of its greatest, equals share the gradient equally.

    Returns:
      [N, K, C]; 0 for a region that has no positions.

    Raises:
      ValueError: for centres of another shape, or another kind.
    """
    if kind not in ("average", "max"):
        raise ValueError(f"the kind of pooling must be average or max; given {kind!r}")
    features = x.reshape(len(x), -1, x.shape[-1])
    member = nearest_centre(features, centres)[..., None] == jnp.arange(len(centres))
    size = member.sum(1)[..., None]
    if kind == "average":
        total = jnp.einsum("npk,npc->nkc", member.astype(x.dtype), features, precision="highest")
        return total / jnp.maximum(size, 1).astype(x.dtype)

    def greatest(of_region: jax.Array) -> jax.Array:
        return jnp.where(of_region[..., None], features, -jnp.inf).max(1)

    return jnp.where(size > 0, jax.vmap(greatest, in_axes=2, out_axes=1)(member), 0)


def weighted_region_pool(x: jax.Array, weights: jax.Array) -> jax.Array:
    """The sum over positions of weights[r, position] x[n, position, c] (Jia 2012, Beyond Spatial Pyramids).

    Args:
      x: [N, *spatial, C].
      weights: [R, *spatial], the same for all images and channels; a region's weights are not negative.

    Returns:
      [N, R, C].

    Raises:
      ValueError: for weights of other spatial sizes.
    """
    if weights.shape[1:] != x.shape[1:-1]:
        raise ValueError(f"weights must be [R, {', '.join(map(str, x.shape[1:-1]))}]; given {weights.shape}")
    features = x.reshape(len(x), -1, x.shape[-1])
    return jnp.einsum("rp,npc->nrc", weights.reshape(len(weights), -1), features, precision="highest")


def grid_regions(spatial: tuple[int, ...], regions: int = 2) -> np.ndarray:
    """Weights with which `weighted_region_pool` is `adaptive_average_pool`: float32 [regions**d, *spatial].

    Each region is a box of the regular grid with `regions` along each of the d dimensions (2: the quadrants), and its
    weights sum to 1. Where a size does not divide evenly, neighbours overlap.

    Raises:
      ValueError: if `regions` is not positive.
    """
    weights = np.ones(1)
    for size, count in zip(spatial, per_dimension(regions, len(spatial), "regions"), strict=True):
        along = np.zeros((count, size))
        for row, (start, stop) in zip(along, region_bounds(size, count), strict=True):
            row[start:stop] = 1 / (stop - start)
        weights = np.einsum("r...,is->ri...s", weights, along).reshape(-1, *weights.shape[1:], size)
    return weights.astype(np.float32)
