"""Normalisation within an example against its definitions in NumPy and SciPy, forward and gradient."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.ops.normalisation import local_contrast, local_response, standardise_groups

Function = Callable[[np.ndarray], np.ndarray]

SHAPES = st.tuples(
    st.integers(1, 2), st.lists(st.integers(1, 5), min_size=1, max_size=3), st.sampled_from([1, 2, 4, 6])
).map(lambda drawn: (drawn[0], *drawn[1], drawn[2]))


def drawn_input(shape: tuple[int, ...], scale: float = 2.0) -> np.ndarray:
    return np.random.default_rng(math.prod(shape)).normal(0.5, scale, shape)


def response_by_loops(x: np.ndarray, size: int, alpha: float, beta: float, k: float) -> np.ndarray:
    """Krizhevsky 2012, section 3.3: j from max(0, i - n/2) to min(N - 1, i + n/2)."""
    result, channels = np.empty_like(x), x.shape[-1]
    for i in range(channels):
        total = sum(x[..., j] ** 2 for j in range(max(0, i - size // 2), min(channels - 1, i + size // 2) + 1))
        result[..., i] = x[..., i] / (k + alpha * total) ** beta
    return result


def contrast_by_filters(x: np.ndarray, window: int, deviation: float, epsilon: float) -> np.ndarray:
    """Jarrett 2009, section 2.1, with the whole window of all dimensions at once."""
    places = np.indices((window,) * (x.ndim - 2)) - window // 2
    weights = np.exp(-(places**2).sum(0) / (2 * deviation**2))
    result = np.empty_like(x)
    filtered = functools.partial(scipy.ndimage.correlate, weights=weights, mode="constant")
    for example, output in zip(x, result, strict=True):
        share = filtered(np.ones(example.shape[:-1]))
        v = example - (filtered(example.mean(-1)) / share)[..., None]
        sigma = np.sqrt(filtered((v**2).mean(-1)) / share + epsilon)
        output[:] = v / np.maximum(sigma.mean(), sigma)[..., None]
    return result


def groups_by_loops(x: np.ndarray, groups: int, epsilon: float) -> np.ndarray:
    result, size = np.empty_like(x), x.shape[-1] // groups
    for example, output in zip(x, result, strict=True):
        for group in range(groups):
            part = example[..., group * size : (group + 1) * size]
            output[..., group * size : (group + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + epsilon)
    return result


def assert_same(function: Callable[[jax.Array], jax.Array], reference: Function, x: np.ndarray) -> None:
    """The same values, and the same slope along a drawn direction of a drawn sum of the outputs."""
    rng = np.random.default_rng(7)
    weights, direction = rng.normal(size=x.shape), rng.normal(size=x.shape)

    @jax.jit
    def value_and_gradient(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, back = jax.vjp(function, x)
        return value, back(jnp.asarray(weights, jnp.float32))[0]

    value, gradient = value_and_gradient(jnp.asarray(x, jnp.float32))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, reference(x), rtol=1e-3, atol=1e-4)
    step = 1e-6
    slope = np.sum(weights * (reference(x + step * direction) - reference(x - step * direction))) / (2 * step)
    size = np.abs(weights).sum() / np.sqrt(x.size)
    np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-2, atol=1e-2 * size)


@given(SHAPES, st.sampled_from([1, 3, 5, 7]), st.sampled_from([1e-4, 0.5]), st.sampled_from([0.5, 0.75]))
def test_local_response_is_its_definition(shape: tuple[int, ...], size: int, alpha: float, beta: float) -> None:
    options = {"size": size, "alpha": alpha, "beta": beta, "k": 1.5}
    reference = functools.partial(response_by_loops, **options)
    assert_same(functools.partial(local_response, **options), reference, drawn_input(shape))


def test_local_response_has_the_constants_of_alexnet() -> None:
    x = drawn_input((1, 2, 2, 9), 100.0).astype(np.float32)
    expected = response_by_loops(x, 5, 1e-4, 0.75, 2.0)
    np.testing.assert_allclose(local_response(x), expected, rtol=1e-4)
    assert np.abs(expected / x).std() > 0.01  # the channels' sizes matter here


@given(SHAPES, st.sampled_from([1, 3, 9]), st.sampled_from([None, 0.8]))
def test_local_contrast_is_its_definition(shape: tuple[int, ...], window: int, deviation: float | None) -> None:
    function = functools.partial(local_contrast, window=window, standard_deviation=deviation, epsilon=0.01)
    reference = functools.partial(contrast_by_filters, window=window, deviation=deviation or window / 4, epsilon=0.01)
    assert_same(function, reference, drawn_input(shape))


def test_local_contrast_forgets_brightness_and_contrast() -> None:
    x = drawn_input((2, 11, 10, 3))
    found = jax.jit(local_contrast)(np.stack([x, 3 * x + 5]).reshape(4, 11, 10, 3)).reshape(2, 2, 11, 10, 3)
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)
    np.testing.assert_allclose(found[0], contrast_by_filters(x, 9, 2.25, 1e-5), atol=1e-4)


@given(SHAPES, st.sampled_from([1, 2, 6]))
def test_groups_are_standardised_as_defined(shape: tuple[int, ...], groups: int) -> None:
    groups = math.gcd(groups, shape[-1])
    function = functools.partial(standardise_groups, groups=groups, epsilon=0.01)
    assert_same(function, functools.partial(groups_by_loops, groups=groups, epsilon=0.01), drawn_input(shape))


def test_group_statistics_survive_a_large_mean_and_a_short_dtype() -> None:
    x = (1000 + 0.5 * drawn_input((1, 4, 4, 6))).astype(np.float32)
    np.testing.assert_allclose(standardise_groups(x, 2), groups_by_loops(np.float64(x), 2, 1e-5), atol=1e-3)
    short = jnp.asarray(100 + 2 * drawn_input((1, 16, 16, 6)), jnp.bfloat16)
    found = standardise_groups(short, 2)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float64(found), groups_by_loops(np.float64(short), 2, 1e-5), atol=0.02)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_gradients_are_finite_and_outputs_zero_at_constant_inputs(dimensions: int) -> None:
    def both(x: jax.Array) -> tuple[jax.Array, ...]:
        return local_response(x), local_contrast(x, window=3), standardise_groups(x, 2)

    @jax.jit
    def values_and_gradients(x: jax.Array) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        total = [lambda x, i=i: jnp.sum(both(x)[i] * jnp.arange(x.size).reshape(x.shape)) for i in range(3)]
        return both(x), tuple(jax.grad(f)(x) for f in total)

    for constant in (0.0, 3.0):
        values, gradients = values_and_gradients(jnp.full((1, *[4] * dimensions, 4), constant))
        assert all(np.isfinite(gradient).all() for gradient in gradients)
        np.testing.assert_allclose(values[1], 0, atol=1e-3)
        np.testing.assert_array_equal(values[2], 0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: local_response(jnp.ones((1, 3, 4)), size=4), "odd and positive.*given 4"),
        (lambda: local_response(jnp.ones((1, 3, 4)), k=0.0), "k must be positive"),
        (lambda: local_contrast(jnp.ones((1, 3, 4)), window=0), "odd and positive.*given 0"),
        (lambda: local_contrast(jnp.ones((1, 3, 4)), standard_deviation=0.0), "standard_deviation"),
        (lambda: local_contrast(jnp.ones((1, 3, 4)), epsilon=0.0), "epsilon"),
        (lambda: local_contrast(jnp.ones((3, 4))), r"spatial, C\]; given \(3, 4\)"),
        (lambda: standardise_groups(jnp.ones((1, 3, 4)), 3), "4 channels do not make 3 groups"),
        (lambda: standardise_groups(jnp.ones((1, 3, 4)), 0), "4 channels do not make 0 groups"),
    ],
)
def test_wrong_arguments_are_refused(call: Callable[[], jax.Array], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
