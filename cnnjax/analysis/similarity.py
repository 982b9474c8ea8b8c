"""How alike the representations of two networks, or of two stages, are: linear centred kernel alignment."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.streaming import GROUPS, Moments, jackknife, sums
from cnnjax.analysis.subject import Subject, stage_outputs

_matmul = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)

# HSIC_1 divides by n - 3.
LEAST_EXAMPLES = 4


def linear_cka(x: np.ndarray | jax.Array, y: np.ndarray | jax.Array, debiased: bool = False) -> float:
    """Linear CKA of two representations of the same examples (Kornblith 2019).

    With X and Y centred it is |Y'X|^2 / (|X'X| |Y'Y|), Frobenius: 1 for a representation and itself, unchanged by
    rotation and scale of either, and in 0 ... 1. With few examples and many features it is large even for independent
    representations. The debiased form, HSIC_1(X, Y) / sqrt(HSIC_1(X, X) HSIC_1(Y, Y)) with the unbiased estimator of
    Song 2012, is then near 0, and may be below it. Both are NaN for a representation that is the same for all
    examples.

    Args:
      x, y: [N, D] and [N, E]; two matrices N x N are held.
      debiased: the form.

    Raises:
      ValueError: if they are not two matrices of equally many rows, at least 2, or at least 4 where debiased.
    """
    least = LEAST_EXAMPLES if debiased else 2
    if np.ndim(x) != 2 or np.ndim(y) != 2 or len(x) != len(y) or len(x) < least:
        raise ValueError(f"x and y must be [N, D] and [N, E], N >= {least}, not {np.shape(x)} and {np.shape(y)}")
    everyone = jnp.ones(len(x))
    products = [_products(jnp.asarray(values, jnp.float32), everyone) for values in (x, y)]
    if debiased:
        products = [_unbiased(product, everyone) for product in products]
    (xx, xy), (_, yy) = np.asarray(_inner(jnp.stack(products), jnp.stack(products)), np.float64)
    return float(_ratio(xy, xx, yy))


def cka(first: Subject, second: Subject, images: np.ndarray, *, key: jax.Array, batch_size: int = 256) -> Moments:
    """Debiased linear CKA between each stage of one network and each of another, on the same images.

    It is the form for minibatches (Nguyen 2021, "Do wide and deep networks learn the same things?", equation 3): the
    unbiased HSIC_1 (Song 2012) of each batch is summed over batches in the numerator and under the root of the
    denominator,

        sum_b HSIC_1(X_b, Y_b) / sqrt(sum_b HSIC_1(X_b, X_b) sum_b HSIC_1(Y_b, Y_b)),

    so that what is estimated does not depend on the batch size, and memory (a matrix batch x batch for each stage) on
    neither the number of images nor that of features. Batches of n images weigh n (n - 3); a last one of fewer than 4
    is left out. Images are dealt to batches at random, as the estimate asks for.

    Args:
      first, second: the networks; the same one twice compares its own stages.
      images: [N, *spatial, C] in units of their own.
      key: of the order of the images.
      batch_size: images at a time, at least 4.

    Returns:
      As `mean`, float64 [S1, S2], stages in the order of `first.stages` and `second.stages`, the input first: 1 for the
      same representation but for rotation and scale, around 0 for independent ones; NaN for an output that is the same
      for all images. `interval` is that of the jackknife over batches (dealt to groups where they are many), and NaN
      for a single batch.

    Raises:
      ValueError: for fewer than 4 images, or a batch size below 4.
    """
    if len(images) < LEAST_EXAMPLES or batch_size < LEAST_EXAMPLES:
        raise ValueError(f"images and batch size must be at least {LEAST_EXAMPLES}, not {len(images)} and {batch_size}")
    order, size = np.asarray(jax.random.permutation(key, len(images))), min(batch_size, len(images))

    def batch(mask: jax.Array, rows: jax.Array, numbers: jax.Array) -> Any:
        group = jax.nn.one_hot(numbers[0] % GROUPS, GROUPS)
        found = *_dependences(first, second, jnp.asarray(images[np.asarray(rows)]), mask), mask.sum() >= LEAST_EXAMPLES
        return jax.tree.map(lambda leaf: group.reshape(-1, *[1] * leaf.ndim) * leaf, found)

    *dependences, counted = sums(batch, (order, np.arange(len(images)) // size), size)
    return jackknife(lambda total: _ratio(total[0], total[1][:, None], total[2][None, :]), dependences, counted)


@jax.jit
def _dependences(
    first: Subject, second: Subject, images: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """n (n - 3) HSIC_1 of one batch: [S1, S2] between the networks, and of each stage with itself, [S1] and [S2]."""
    counted = mask.astype(jnp.float32)
    one, two = (
        jnp.stack(
            [_unbiased(_products(output, counted), counted) for output in stage_outputs(subject, images).values()]
        )
        for subject in (first, second)
    )
    return _inner(one, two), jnp.sum(one**2, (1, 2)), jnp.sum(two**2, (1, 2))


def _products(outputs: jax.Array, counted: jax.Array) -> jax.Array:
    """XX' [N, N] of outputs [N, ...] about their mean over the examples that count (1, not 0); 0 for the others."""
    x = outputs.reshape(len(outputs), -1)
    # About one example first: a far mean then costs no digits.
    x = x - x[0]
    x = (x - _matmul("n,nd->d", counted, x) / counted.sum()) * counted[:, None]
    return _matmul("nd,md->nm", x, x)


def _unbiased(product: jax.Array, counted: jax.Array) -> jax.Array:
    """A matrix of products [N, N] so centred that the elementwise product of two adds up to n (n - 3) HSIC_1.

    It is the U-centring of Szekely and Rizzo 2014 (section 3), behind which rows and columns add up to 0 without their
    diagonal; all 0 for fewer than 4 examples that count.
    """
    n = counted.sum()
    off_diagonal = counted[:, None] * counted * (1 - jnp.eye(len(counted)))
    product = product * off_diagonal
    rows = product.sum(1) / jnp.maximum(n - 2, 1)
    centred = product - rows[:, None] - rows + rows.sum() / jnp.maximum(n - 1, 1)
    return jnp.where(n >= LEAST_EXAMPLES, centred * off_diagonal, 0)


def _inner(one: jax.Array, two: jax.Array) -> jax.Array:
    """The sums [S1, S2] of the elementwise products of matrices [S1, N, N] and [S2, N, N]."""
    return _matmul("snm,tnm->st", one, two)


def _ratio(between: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """NaN where one of the two does not vary."""
    scale = np.sqrt(own) * np.sqrt(other)
    return np.divide(between, scale, out=np.full(np.shape(between), np.nan), where=scale > 0)
