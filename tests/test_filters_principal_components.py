"""Principal components, against scikit-learn."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from cnnjax.filters.principal_components import principal_components


def test_as_scikit_learn_finds_them() -> None:
    rng = np.random.default_rng(0)
    patches = (rng.normal(size=(300, 7)) * 2.0 ** -np.arange(7) @ rng.normal(size=(7, 7)) + 5).astype(np.float32)
    found = np.asarray(principal_components(patches, 4))
    expected = PCA(4, svd_solver="full").fit(patches.astype(np.float64)).components_.T
    largest = np.take_along_axis(expected, np.abs(expected).argmax(axis=0)[None], axis=0)
    np.testing.assert_allclose(found, expected * np.sign(largest), atol=1e-3)
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "repeats", "rank"), [((9, 4), 1, 4), ((3, 4), 1, 2), ((2, 4), 8, 1)], ids=["values", "patches", "copies"]
)
def test_more_filters_than_directions_are_refused(shape: tuple[int, int], repeats: int, rank: int) -> None:
    patches = np.tile(np.random.default_rng(0).normal(size=shape).astype(np.float32), (repeats, 1))
    assert principal_components(patches, rank).shape == (4, rank)
    with pytest.raises(ValueError, match=f"have {rank} principal components, not 5; use at most {rank} filters"):
        principal_components(patches, 5)


def test_constant_patches_have_none() -> None:
    with pytest.raises(ValueError, match="have 0 principal components"):
        principal_components(np.full((5, 3), 0.1, np.float32), 1)
