"""The classic kernels: as the lectures print them, and what they do to images with a known answer."""

import numpy as np
import pytest
import scipy.ndimage

from cnnjax.ops.kernels import KERNELS, binomial, box, identity

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 10, (8, 9)).astype(np.float64)
RAMP = 2.0 * np.arange(8)[:, None] + 3.0 * np.arange(9)

PRINTED = {
    "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],  # 000_62aab441bdec7d37.txt, 182; 002_99c791af916edae9.txt, 870
    "edges": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],  # 000, 184
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],  # 000, 186
    "box": np.ones((3, 3)) / 9,  # 000, 194; 002, 885
    "gaussian_3x3": np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16,  # 000, 196
    "unsharp_3x3": np.array([[-1, -2, -1], [-2, 28, -2], [-1, -2, -1]]) / 16,  # 000, 198
    "difference": [[-1, 1]],  # 000, 429
    "shift_left": [[0, 0, 0], [1, 0, 0], [0, 0, 0]],  # 002, 880
    "sharpen_box": np.array([[0, 0, 0], [0, 2, 0], [0, 0, 0]]) - np.ones((3, 3)) / 9,  # 002, 895
}
NOT_IN_THE_LECTURES = {
    "gaussian_5x5": np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256,
    "unsharp_5x5": np.array(
        [[1, 4, 6, 4, 1], [4, 16, 24, 16, 4], [6, 24, -476, 24, 6], [4, 16, 24, 16, 4], [1, 4, 6, 4, 1]]
    )
    / -256,
    "sobel_columns": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "sobel_rows": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
}


def correlated(image: np.ndarray, name: str) -> np.ndarray:
    return scipy.ndimage.correlate(image, KERNELS[name].astype(np.float64), mode="nearest")


@pytest.mark.parametrize(("name", "kernel"), (PRINTED | NOT_IN_THE_LECTURES).items())
def test_kernel_is_as_printed(name: str, kernel: np.ndarray) -> None:
    assert KERNELS[name].dtype == np.float32
    np.testing.assert_allclose(KERNELS[name], np.asarray(kernel, np.float64), rtol=1e-6)


def test_every_kernel_is_held_against_a_print_and_cannot_be_written() -> None:
    assert set(KERNELS) == {*PRINTED, *NOT_IN_THE_LECTURES}
    for kernel in KERNELS.values():
        with pytest.raises(ValueError, match="read-only"):
            kernel[0, 0] = 7


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_weights_add_up_to_one_or_to_none(name: str) -> None:
    """What keeps the brightness of an even image, and what shows its edges alone."""
    edge = name in ("difference", "edges", "sobel_columns", "sobel_rows")
    np.testing.assert_allclose(KERNELS[name].sum(), 0 if edge else 1, atol=1e-6)


def test_what_they_do() -> None:
    np.testing.assert_array_equal(correlated(IMAGE, "identity"), IMAGE)
    np.testing.assert_allclose(correlated(IMAGE, "box"), scipy.ndimage.uniform_filter(IMAGE, 3, mode="nearest"))
    for size in (3, 5):
        blurred = correlated(IMAGE, f"gaussian_{size}x{size}")
        np.testing.assert_allclose(correlated(IMAGE, f"unsharp_{size}x{size}"), 2 * IMAGE - blurred)
    np.testing.assert_allclose(correlated(IMAGE, "sharpen_box"), 2 * IMAGE - correlated(IMAGE, "box"), atol=1e-5)
    np.testing.assert_allclose(correlated(IMAGE, "edges"), 9 * (IMAGE - correlated(IMAGE, "box")), atol=1e-4)
    np.testing.assert_array_equal(correlated(IMAGE, "difference")[:, 1:], np.diff(IMAGE))
    np.testing.assert_array_equal(correlated(RAMP, "sobel_rows")[1:-1, 1:-1], 8 * 2)
    np.testing.assert_array_equal(correlated(RAMP, "sobel_columns")[1:-1, 1:-1], 8 * 3)


def test_convolution_with_shift_left_moves_to_the_left_and_correlation_to_the_right() -> None:
    moved = scipy.ndimage.convolve(IMAGE, KERNELS["shift_left"].astype(np.float64))
    np.testing.assert_array_equal(moved[:, :-1], IMAGE[:, 1:])
    np.testing.assert_array_equal(correlated(IMAGE, "shift_left")[:, 1:], IMAGE[:, :-1])


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_families_in_every_size_and_dimension(size: int, dimensions: int) -> None:
    shape = (size,) * dimensions
    for kernel in (box(size, dimensions), binomial(size, dimensions)):
        assert kernel.shape == shape
        assert kernel.dtype == np.float32
        np.testing.assert_allclose(kernel.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(box(size, dimensions), 1 / size**dimensions, rtol=1e-6)
    spread = np.arange(size) - (size - 1) / 2
    along = binomial(size, dimensions).reshape(size, -1).sum(1)
    np.testing.assert_allclose(np.sum(along * spread**2), (size - 1) / 4, rtol=1e-6)
    if size % 2:
        centred = np.zeros(shape)
        centred[(size // 2,) * dimensions] = 1
        np.testing.assert_array_equal(identity(size, dimensions), centred)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="odd window has a centre; given 4"):
        identity(4)
    for family in (identity, box, binomial):
        with pytest.raises(ValueError, match="given 0 and 2"):
            family(0)
        with pytest.raises(ValueError, match="given 3 and 0"):
            family(3, 0)
