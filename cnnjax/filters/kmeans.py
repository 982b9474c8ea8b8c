"""k-means: seeds by k-means++, then Lloyd's iterations, on the device and a block of vectors at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Distances of a block of vectors to all centroids: 16 MiB.
DISTANCES_AT_ONCE = 2**22
# Between two calls of `between` lies less than about a second on two cores.
PRODUCTS_IN_A_DISPATCH = 2**34
DIFFERENCES_IN_A_DISPATCH = 2**28


def kmeans(
    key: jax.Array, vectors: jax.Array, clusters: int, iterations: int, between: Callable[[float], None]
) -> jax.Array:
    """Centroids with a small sum of squared distances of the vectors to the nearest.

    They start by k-means++ (Arthur and Vassilvitskii 2007) and are improved by `lloyd`. The same key gives the same
    centroids.

    Args:
      key: of the seeds.
      vectors: [M, n] float32.
      clusters: how many centroids.
      iterations: of Lloyd's algorithm.
      between: called after each dispatch with the share done, up to 1; it may raise to stop.

    Returns:
      [clusters, n] float32.

    Raises:
      ValueError: if there are fewer distinct vectors than clusters.
    """
    require_distinct(vectors, clusters)
    mean = jnp.mean(vectors, axis=0)
    centred = vectors - mean  # distances stay as they are, and lose less to rounding
    phases = iterations + 1  # seeding costs about as much as one iteration
    centroids = _seed(key, centred, clusters, lambda share: between(share / phases))
    at_once = max(1, PRODUCTS_IN_A_DISPATCH // (2 * vectors.size * clusters))
    for first in range(0, iterations, at_once):
        last = min(first + at_once, iterations)
        centroids = lloyd(centred, centroids, last - first).block_until_ready()
        between((1 + last) / phases)
    return centroids + mean


def distinct_vectors(vectors: jax.Array | np.ndarray) -> np.ndarray:
    """The index of the first of each of the distinct vectors [M, n], rising.

    Vectors are equal if all elements round to the same multiple of 2^-16 of the root mean square of all: the same
    patch at another brightness differs in rounding once its mean is removed.
    """
    values = np.asarray(vectors)
    scale = np.sqrt(np.sum(np.square(values)) / max(values.size, 1))
    rounded = np.rint(values * (2**16 / scale if scale > 0 else 0)) + 0.0  # -0 becomes 0
    first: dict[bytes, int] = {}
    for index, row in enumerate(rounded):
        first.setdefault(row.tobytes(), index)
    return np.fromiter(first.values(), np.int64)


def require_distinct(vectors: jax.Array | np.ndarray, filters: int) -> np.ndarray:
    """`distinct_vectors`; or a ValueError if there are fewer of them than filters."""
    distinct = distinct_vectors(vectors)
    if len(distinct) < filters:
        raise ValueError(
            f"{len(distinct)} distinct patches cannot support {filters} filters; "
            f"use at most {len(distinct)} filters, or more patches"
        )
    return distinct


@jax.jit
def lloyd(vectors: jax.Array, centroids: jax.Array, iterations: int) -> jax.Array:
    """Lloyd's iterations: each centroid becomes the mean of the vectors that are nearest to it.

    A centroid that is nearest to none is moved to the vector farthest from its centroid; where there are several
    such, to vectors that are far from one another too.

    Args:
      vectors: [M, n] float32.
      centroids: [clusters, n] float32, where to start.
      iterations: how many.

    Returns:
      [clusters, n] float32.
    """
    clusters = len(centroids)
    blocks, present = _split(vectors, clusters)

    def iteration(_: jax.Array, centroids: jax.Array) -> jax.Array:
        sums, counts, distances = _assign(blocks, present, centroids)
        means = sums / jnp.maximum(counts, 1)[:, None]
        return _move_empty(vectors, means, counts == 0, distances.reshape(-1)[: len(vectors)])

    return lax.fori_loop(0, iterations, iteration, centroids)


def _split(vectors: jax.Array, clusters: int) -> tuple[jax.Array, jax.Array]:
    """The vectors in blocks [B, rows, n], the last one padded, and 1 for each that is one, [B, rows]."""
    count = -(-len(vectors) * clusters // DISTANCES_AT_ONCE)
    rows = -(-len(vectors) // count)
    padding = count * rows - len(vectors)
    blocks = jnp.pad(vectors, ((0, padding), (0, 0))).reshape(count, rows, -1)
    present = jnp.pad(jnp.ones(len(vectors)), (0, padding)).reshape(count, rows)
    return blocks, present


def _assign(blocks: jax.Array, present: jax.Array, centroids: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of the vectors nearest to each centroid the sum [clusters, n] and the number [clusters]; and how far each vector
    [B, rows] is from its centroid, squared."""
    squares = jnp.sum(jnp.square(centroids), axis=1)

    Pair = tuple[jax.Array, jax.Array]

    def block(carry: Pair, part: Pair) -> tuple[Pair, jax.Array]:
        values, here = part
        products = jnp.matmul(values, centroids.T, precision=lax.Precision.HIGHEST)
        relative = squares - 2 * products
        # Sums by a matrix product, since scattered additions on a GPU come in no fixed order.
        members = jax.nn.one_hot(jnp.argmin(relative, axis=1), len(centroids)) * here[:, None]
        sums = carry[0] + jnp.matmul(members.T, values, precision=lax.Precision.HIGHEST)
        distances = jnp.min(relative, axis=1) + jnp.sum(jnp.square(values), axis=1)
        return (sums, carry[1] + jnp.sum(members, axis=0)), distances

    start = (jnp.zeros_like(centroids), jnp.zeros(len(centroids)))
    (sums, counts), distances = lax.scan(block, start, (blocks, present))
    return sums, counts, distances


def _move_empty(vectors: jax.Array, centroids: jax.Array, empty: jax.Array, distances: jax.Array) -> jax.Array:
    """The centroids, those of `empty` [clusters] moved one by one to the vector farthest from all."""
    State = tuple[jax.Array, jax.Array, jax.Array]

    def move(state: State) -> State:
        centroids, empty, distances = state
        farthest, cluster = vectors[jnp.argmax(distances)], jnp.argmax(empty)
        distances = jnp.minimum(distances, _squared_distances(vectors, farthest))
        return centroids.at[cluster].set(farthest), empty.at[cluster].set(False), distances

    return lax.while_loop(lambda state: jnp.any(state[1]), move, (centroids, empty, distances))[0]


def _squared_distances(vectors: jax.Array, point: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(vectors - point), axis=1)


def _seed(key: jax.Array, vectors: jax.Array, clusters: int, between: Callable[[float], None]) -> jax.Array:
    """Centroids [clusters, n] by k-means++: each a vector, drawn in proportion to its squared distance from those drawn
    so far."""
    first_key, key = jax.random.split(key)
    chosen = vectors[jax.random.randint(first_key, (), 0, len(vectors))]
    centroids = jnp.zeros((clusters, vectors.shape[1])).at[0].set(chosen)
    distances = _squared_distances(vectors, chosen)
    at_once = max(1, DIFFERENCES_IN_A_DISPATCH // vectors.size)
    for first in range(1, clusters, at_once):
        last = min(first + at_once, clusters)
        centroids, distances = jax.block_until_ready(_draw_seeds(key, vectors, centroids, distances, first, last))
        between(last / clusters)
    return centroids


@jax.jit
def _draw_seeds(
    key: jax.Array, vectors: jax.Array, centroids: jax.Array, distances: jax.Array, first: int, last: int
) -> tuple[jax.Array, jax.Array]:
    """The centroids with those from `first` to before `last` drawn, and the squared distances [M] to the nearest."""

    def draw(index: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        centroids, distances = state
        chosen = vectors[jax.random.categorical(jax.random.fold_in(key, index), jnp.log(distances))]
        return centroids.at[index].set(chosen), jnp.minimum(distances, _squared_distances(vectors, chosen))

    return lax.fori_loop(first, last, draw, (centroids, distances))
