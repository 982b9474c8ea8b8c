"""Extended grids against NumPy's own padding, under JAX's transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.ops.borders import extend, extend_p

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
