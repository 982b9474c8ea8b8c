"""The lectures' algebra of convolution: definitions, commuting, associating, Toeplitz matrices, equivariance.

Each test names the lecture's file in shared/seeds and its lines. Small whole numbers make all sums exact.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage

from cnnjax.ops.convolution import convolve, correlate

SPATIAL = [(7,), (4, 5), (3, 4, 3)]


def drawn(seed: int, *shape: int) -> jax.Array:
    """[*shape] of whole numbers from -3 to 3 without 0."""
    return jnp.asarray(np.random.default_rng(seed).choice([-3, -2, -1, 1, 2, 3], shape), jnp.float32)


def full_convolution(a: jax.Array, b: jax.Array) -> jax.Array:
    """a * b of arrays [*spatial], each of which may be the kernel, under full padding."""
    return convolve(a[None, ..., None], b[..., None, None], padding="full")[0, ..., 0]


def full_correlation(a: jax.Array, b: jax.Array) -> jax.Array:
    """a correlated with the kernel b, arrays [*spatial], under full padding."""
    return correlate(a[None, ..., None], b[..., None, None], padding="full")[0, ..., 0]


def on_a_circle(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Correlation [N, *spatial, C] to the same grid, whose ends meet."""
    return correlate(x, kernel, padding="same", border="circular")


@pytest.mark.parametrize("dimensions", [1, 2])
def test_definitions(dimensions: int) -> None:
    """000_62aab441bdec7d37.txt, 99 and 167; 001_dbf4440b6b16890f.txt, 32-57: a[i] = sum over m of x[m] k[i - m].

    The cross-correlation of 000, 216 is printed as sum over m of x[m] k[i + m]; read so, it is the one of 001, 57, sum
    of x[i + m] k[m], at -i: the same numbers in reverse order.
    """
    x, k = drawn(0, *(4, 3)[:dimensions]), drawn(1, *(3, 2)[:dimensions])
    sizes = [n + m - 1 for n, m in zip(x.shape, k.shape, strict=True)]
    convolved, correlated, printed = np.zeros(sizes), np.zeros(sizes), np.zeros(sizes)
    for m in np.ndindex(x.shape):
        for n in np.ndindex(k.shape):
            product = float(x[m]) * float(k[n])
            convolved[tuple(np.add(m, n))] += product
            lag = np.subtract(m, n)  # i = m - n, where x[i + n] meets k[n]; from -(size of k - 1) on
            correlated[tuple(np.add(lag, k.shape) - 1)] += product
            printed[tuple(np.subtract(x.shape, lag) - 1)] += product  # i = n - m, from -(size of x - 1) on
    np.testing.assert_array_equal(full_convolution(x, k), convolved)
    np.testing.assert_array_equal(full_correlation(x, k), correlated)
    np.testing.assert_array_equal(np.flip(full_correlation(x, k)), printed)


def test_convolution_is_correlation_with_the_kernel_flipped_along_all_axes() -> None:
    """000_62aab441bdec7d37.txt, 216-226; 003_2444bc7fa30d6853.txt, 553-561, whose sums are around the centre."""
    image, kernel = drawn(2, 5, 6), drawn(3, 3, 3)
    around = dict.fromkeys(("plus", "minus"))
    for sign in around:
        around[sign] = np.zeros((3, 4))
        for i, j, k, m in np.ndindex(3, 4, 3, 3):
            at = (i + k, j + m) if sign == "plus" else (i + 2 - k, j + 2 - m)
            around[sign][i, j] += float(kernel[k, m]) * float(image[at])
    x, k = image[None, ..., None], kernel[..., None, None]
    np.testing.assert_array_equal(correlate(x, k)[0, ..., 0], around["plus"])
    np.testing.assert_array_equal(convolve(x, k)[0, ..., 0], around["minus"])
    np.testing.assert_array_equal(correlate(x, k[::-1, ::-1])[0, ..., 0], around["minus"])


def test_triangle_with_block() -> None:
    """000_62aab441bdec7d37.txt, 149-153."""
    found = full_convolution(jnp.array([1.0, 2.0, 3.0, 2.0, 1.0]), jnp.ones(3))
    np.testing.assert_array_equal(found, [1, 3, 6, 7, 6, 3, 1])


@pytest.mark.parametrize("spatial", SPATIAL)
def test_convolution_commutes_and_associates(spatial: tuple[int, ...]) -> None:
    """000_62aab441bdec7d37.txt, 204-206; 001_dbf4440b6b16890f.txt, 50-52."""
    a, b, c = drawn(0, *spatial), drawn(1, *[2] * len(spatial)), drawn(2, *[3] * len(spatial))

    @jax.jit
    def orders(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[tuple[jax.Array, jax.Array], ...]:
        one_way, other_way = full_convolution(a, b), full_convolution(b, a)
        grouped = full_convolution(a, full_convolution(b, c)), full_convolution(one_way, c)
        return (one_way, other_way), grouped

    for found, expected in orders(a, b, c):
        np.testing.assert_array_equal(found, expected)
        assert np.abs(found).max() > 0


@pytest.mark.parametrize("spatial", SPATIAL)
def test_correlation_neither_commutes_nor_associates(spatial: tuple[int, ...]) -> None:
    """000_62aab441bdec7d37.txt, 214. Exchanging its operands reverses the result."""
    a, b, c = drawn(0, *spatial), drawn(1, *[2] * len(spatial)), drawn(2, *[3] * len(spatial))

    @jax.jit
    def orders(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[tuple[jax.Array, jax.Array], ...]:
        one_way, other_way = full_correlation(a, b), full_correlation(b, a)
        grouped = full_correlation(a, full_correlation(b, c)), full_correlation(one_way, c)
        return (one_way, other_way), grouped

    exchanged, grouped = orders(a, b, c)
    assert all(np.any(one_way != other_way) for one_way, other_way in (exchanged, grouped))
    np.testing.assert_array_equal(np.flip(exchanged[0]), exchanged[1])


def test_convolution_is_a_product_with_a_toeplitz_matrix() -> None:
    """000_62aab441bdec7d37.txt, 57-67: W of first column v and first row u, with few that are not 0."""
    x, kernel = drawn(4, 6), drawn(5, 3)
    v, u = np.concatenate([kernel, np.zeros(5)]), np.concatenate([kernel[:1], np.zeros(5)])
    matrix = scipy.linalg.toeplitz(v, u)
    np.testing.assert_array_equal(full_convolution(x, kernel), matrix @ np.asarray(x))
    assert np.count_nonzero(matrix) <= len(x) * len(kernel)


@pytest.mark.parametrize("spatial", SPATIAL)
def test_shifts_on_a_circle_pass_through_exactly(spatial: tuple[int, ...]) -> None:
    """000_62aab441bdec7d37.txt, 454-462; 001_dbf4440b6b16890f.txt, 242-254: f(g(x)) = g(f(x)), g(x)[i] = x[i - 1]."""
    x, kernel = drawn(6, 2, *spatial, 2), drawn(7, *[3] * len(spatial), 2, 3)
    axes = tuple(range(1, len(spatial) + 1))

    @jax.jit
    def both_ways(x: jax.Array, kernel: jax.Array, shift: int) -> tuple[jax.Array, ...]:
        still = on_a_circle(x, kernel)
        return on_a_circle(jnp.roll(x, shift, axes), kernel), jnp.roll(still, shift, axes), still

    for shift in (1, -2):
        shifted_first, shifted_last, still = both_ways(x, kernel, shift)
        np.testing.assert_array_equal(shifted_first, shifted_last)
        assert np.any(shifted_last != still)  # equivariant, not invariant


def test_shifts_meet_the_border_where_it_is_of_zeros() -> None:
    """The reason for the circle: 003_2444bc7fa30d6853.txt, 608-628. Positions that never see a border agree."""
    x, kernel = drawn(6, 1, 8, 1), drawn(7, 3, 1, 1)
    shifted_first = correlate(jnp.roll(x, 1, 1), kernel, padding="same")[0, :, 0]
    shifted_last = jnp.roll(correlate(x, kernel, padding="same"), 1, 1)[0, :, 0]
    assert np.any(shifted_first != shifted_last)
    np.testing.assert_array_equal(shifted_first[2:-1], shifted_last[2:-1])


def test_rotation_and_scaling_do_not_pass_through() -> None:
    """000_62aab441bdec7d37.txt, 484; 001_dbf4440b6b16890f.txt, 260.

    A quarter turn of image and kernel together does; so the kernel would have to be even under turns.
    """
    x, kernel = drawn(8, 1, 5, 5, 1), drawn(9, 3, 3, 1, 1)
    turned_last = jnp.rot90(on_a_circle(x, kernel), axes=(1, 2))
    turned = jnp.rot90(x, axes=(1, 2))
    assert np.any(on_a_circle(turned, kernel) != turned_last)
    np.testing.assert_array_equal(on_a_circle(turned, jnp.rot90(kernel)), turned_last)
    even = jnp.array([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]])[..., None, None]
    np.testing.assert_array_equal(on_a_circle(turned, even), jnp.rot90(on_a_circle(x, even), axes=(1, 2)))

    def doubled(x: jax.Array) -> jax.Array:
        return x.repeat(2, 1).repeat(2, 2)

    assert np.any(on_a_circle(doubled(x), kernel) != doubled(on_a_circle(x, kernel)))


def test_one_kernel_serves_inputs_of_every_size() -> None:
    """000_62aab441bdec7d37.txt, 273: what is computed of a part is what is computed of the whole, there."""
    x, kernel = drawn(10, 1, 9, 1), drawn(11, 3, 1, 2)
    whole = correlate(x, kernel)
    for start, end in ((0, 3), (2, 8)):
        np.testing.assert_array_equal(correlate(x[:, start:end], kernel), whole[:, start : end - 2])
