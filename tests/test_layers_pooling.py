"""The pooling layers by name, on one example that is worked by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers.pooling import POOLS

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


@pytest.mark.parametrize("name", sorted(POOLS))
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_every_spatial_dimension_shrinks_alike_and_no_other(name: str, dimensions: int) -> None:
    found = POOLS[name](jnp.ones((5, *[6] * dimensions, 7)), window=3)
    assert found.shape == (5, *[6 if name == "none" else 2] * dimensions, 7)
