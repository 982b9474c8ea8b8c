"""The pooling layers by name, on one example that is worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers.pooling import POOLS, pool_by

GRID = [[1, 2, 3, 4, 5], [9, 8, 7, 6, 5], [-1, -2, -3, -4, -5], [-9, -8, -7, -6, -5]]
SUMMARIES = {
    "max": [[9, 7], [-1, -3]],
    "average": [[5, 5], [-5, -5]],
    "stride": [[1, 3, 5], [-1, -3, -5]],
    "none": GRID,
}


@pytest.mark.parametrize("name", sorted(POOLS))
def test_pool_by_name(name: str) -> None:
    x = jnp.asarray(GRID, jnp.float32)[None, :, :, None]
    np.testing.assert_array_equal(POOLS[name](x, window=2)[0, :, :, 0], SUMMARIES[name])


def test_pool_with_its_window_set() -> None:
    halve = pool_by(POOLS["max"], 2)
    np.testing.assert_array_equal(halve(jnp.asarray([3.0, 1.0, 2.0, 4.0]).reshape(1, 4, 1)).ravel(), [3, 4])


@pytest.mark.parametrize("name", sorted(POOLS))
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_every_spatial_dimension_shrinks_alike_and_no_other(name: str, dimensions: int) -> None:
    x = jax.ShapeDtypeStruct((5, *[6] * dimensions, 7), jnp.float32)
    found = jax.eval_shape(lambda x: POOLS[name](x, window=3), x)
    assert found.shape == (5, *[6 if name == "none" else 2] * dimensions, 7)
