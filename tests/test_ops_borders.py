"""Extended grids against NumPy's own padding, under JAX's transformations, and correlations past the border."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cnnjax.ops.borders import extend, extend_p
from cnnjax.ops.convolution import correlate
from tests.test_ops_convolution import Case, cases, correlate_by_loops, pads_of

MODES = {"zeros": "constant", "reflect": "reflect", "circular": "wrap"}


def whole_numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


@pytest.mark.parametrize("border", sorted(MODES))
@pytest.mark.parametrize("pads", [((2, 1),), ((0, 3), (1, 0)), ((1, 1), (2, 2), (0, 1))])
def test_extended_grid_and_its_transpose(border: str, pads: tuple[tuple[int, int], ...]) -> None:
    x = whole_numbers(0, 2, *[4] * len(pads), 3)
    expected = np.pad(x, ((0, 0), *pads, (0, 0)), mode=MODES[border])
    weights = whole_numbers(1, *expected.shape)
    found, back = jax.vjp(lambda x: extend(x, pads, border), x)
    np.testing.assert_array_equal(found, expected)
    places = np.pad(np.arange(x.size).reshape(x.shape), ((0, 0), *pads, (0, 0)), mode=MODES[border])
    counted = np.pad(np.ones_like(x), ((0, 0), *pads, (0, 0)), mode=MODES[border] if border != "zeros" else "constant")
    gradient = np.bincount(places.ravel(), (weights * counted).ravel(), x.size)
    np.testing.assert_allclose(back(weights)[0], gradient.reshape(x.shape), atol=1e-5)


def test_one_equation_that_jvp_and_vmap_understand() -> None:
    x, dx = whole_numbers(0, 5, 2, 4, 3), whole_numbers(1, 5, 2, 4, 3)

    def ring(x: jax.Array) -> jax.Array:
        return extend(x, ((1, 2),), "circular")

    assert [equation.primitive for equation in jax.make_jaxpr(ring)(x[0]).eqns] == [extend_p]
    expected = np.pad(dx, ((0, 0), (0, 0), (1, 2), (0, 0)), mode="wrap")
    found = jax.jit(jax.vmap(lambda x, dx: jax.jvp(ring, (x,), (dx,))[1]))(x, dx)
    np.testing.assert_array_equal(found, expected)
    moved = jax.vmap(ring, in_axes=2)(jnp.moveaxis(x, 0, 2))
    np.testing.assert_array_equal(moved, np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 0)), mode="wrap"))


def test_nothing_to_add() -> None:
    x = jnp.ones((1, 4, 2))
    assert extend(x, ((0, 0),), "reflect") is x


def test_wrong_borders_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown border 'mirror'; there are: zeros, reflect, circular"):
        extend(jnp.ones((1, 4, 2)), ((1, 1),), "mirror")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not enough elements to reflect"):
        extend(jnp.ones((1, 2, 2)), ((2, 0),), "reflect")


@given(cases(), st.sampled_from(["reflect", "circular", "causal"]))
def test_gradients_reach_what_lies_past_the_border(case: Case, border: str) -> None:
    pads = pads_of(case)
    if border == "causal":
        time = case.dilation[0] * (case.kernel.shape[0] - 1)
        pads = [(time, 0), *pads_of(case._replace(padding="same"))[1:]]
    sizes = case.x.shape[1:-1]
    assume(border == "causal" or all(max(pair) < size for pair, size in zip(pads, sizes, strict=True)))
    around = ((0, 0), *pads, (0, 0))
    mode = {"reflect": "reflect", "circular": "wrap", "causal": "constant"}[border]
    padded = np.pad(case.x, around, mode=mode)  # type: ignore[call-overload]
    expected = correlate_by_loops(case._replace(x=padded, padding="valid"))
    weights = whole_numbers(5, *expected.shape)
    of_padded, of_kernel = np.zeros_like(padded), np.zeros_like(case.kernel)
    for i, m in itertools.product(np.ndindex(expected.shape[1:-1]), np.ndindex(case.kernel.shape[:-2])):
        at = (slice(None), *(s * p + d * q for s, p, d, q in zip(case.strides, i, case.dilation, m, strict=True)))
        of_padded[at] += weights[(slice(None), *i)] @ case.kernel[m].T
        of_kernel[m] += padded[at].T @ weights[(slice(None), *i)]
    # Each padded element is one of x, but for zeros: number 0 there.
    numbers = np.pad(np.arange(1, case.x.size + 1).reshape(case.x.shape), around, mode=mode)  # type: ignore[call-overload]
    of_x = np.bincount(numbers.ravel(), of_padded.ravel(), case.x.size + 1)[1:].reshape(case.x.shape)
    own = {"padding": "causal"} if border == "causal" else {"padding": pads, "border": border}

    @jax.jit
    def run(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        options = {"strides": case.strides, "dilation": case.dilation, **own}
        value, back = jax.vjp(lambda x, kernel: correlate(x, kernel, **options), x, kernel)
        return value, back(weights)

    value, (found_x, found_kernel) = run(case.x, case.kernel)
    np.testing.assert_allclose(value, expected, atol=1e-4)
    np.testing.assert_allclose(found_x, of_x, atol=1e-4)
    np.testing.assert_allclose(found_kernel, of_kernel, atol=1e-4)
