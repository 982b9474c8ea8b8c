"""The lectures' worked examples of convolution, padding, stride, channels, sizes and counts.

Each test names the lecture's file in shared/seeds and its lines. Where a printed figure is wrong, the right one is
tested and the docstring says so. What the lectures call convolution here is cross-correlation: kernels are not flipped.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.models.cost import multiply_adds
from cnnjax.ops.convolution import convolve, correlate
from cnnjax.ops.geometry import Padding, output_size
from cnnjax.ops.kernels import KERNELS

SERIES, KERNEL = [1, 0, 2, 3, 5, 1, 2, 3], [-1, 2, 1]


def correlated(x: Any, kernel: Any, **options: Any) -> np.ndarray:
    """One channel to one feature map, of arrays [*spatial]."""
    x, kernel = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
    return np.asarray(correlate(x[None, ..., None], kernel[..., None, None], **options))[0, ..., 0]


def parameters(layer: Any, *shape: int) -> dict[str, int]:
    """How many numbers each parameter of a layer has, for one input of a shape; nothing is allocated."""
    params = jax.eval_shape(layer.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32))["params"]
    return {name: math.prod(array.shape) for name, array in params.items()}


def test_series_with_kernel_of_three() -> None:
    """002_99c791af916edae9.txt, 411-481."""
    np.testing.assert_array_equal(correlated(SERIES, KERNEL), [1, 7, 9, 8, -1, 6])


@pytest.mark.parametrize("padding", [1, "same"])
def test_series_with_zero_padding(padding: Padding) -> None:
    """002_99c791af916edae9.txt, 542-649."""
    np.testing.assert_array_equal(correlated(SERIES, KERNEL, padding=padding), [2, 1, 7, 9, 8, -1, 6, 4])


def test_series_with_zero_padding_and_stride_two() -> None:
    """002_99c791af916edae9.txt, 660-709: the series there ends one element sooner."""
    np.testing.assert_array_equal(correlated(SERIES[:-1], KERNEL, padding=1, strides=2), [2, 7, 8, 3])


def test_moving_average_of_ten_leaves_a_line_a_line() -> None:
    """002_99c791af916edae9.txt, 491-520, without the noise: 1,000 numbers become 991."""
    line = 0.05 * np.linspace(0, 100, 1000) - 1.5
    found = correlated(line, 0.1 * np.ones(10))
    assert found.shape == (991,)
    np.testing.assert_allclose(found, (line[:991] + line[9:]) / 2, atol=1e-5)


def test_two_weights_are_the_difference_of_neighbours() -> None:
    """004_ff7ec25d1690b81c.txt, 474-489: y = x1 - x2 is greatest, among inputs in [0, 1], at (1, 0)."""
    pairs = [0, 0, 0, 1, 1, 0, 1, 1]
    np.testing.assert_array_equal(correlated(pairs, [1, -1], strides=2), [0, -1, 1, 0])


def test_image_of_six_with_kernel_of_three() -> None:
    """002_99c791af916edae9.txt, 747-824: the first row and the start of the second.

    The fourth sum (805) is printed as 2; its terms are -1 + 1 + 2 - 1 = 1.
    """
    image = [
        [1, 0, 2, 1, -1, 1],
        [0, 1, -1, 1, 0, 2],
        [1, 0, 0, 0, -1, 1],
        [0, -1, -1, 0, 2, 0],
        [1, 1, 0, -2, 1, 0],
        [0, 0, 1, -1, 0, 1],
    ]
    found = correlated(image, [[-1, 0, 1], [0, 2, 1], [1, 0, -1]])
    assert found.shape == (4, 4)
    np.testing.assert_array_equal(found.ravel()[:5], [3, 0, 0, 1, 0])


def test_binary_image_with_the_cross() -> None:
    """001_dbf4440b6b16890f.txt, 73-212; its first sum is also in 002_99c791af916edae9.txt, 830-841."""
    image = [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
    found = correlated(image, [[1, 0, 1], [0, 1, 0], [1, 0, 1]])
    np.testing.assert_array_equal(found, [[4, 3, 4], [2, 4, 3], [2, 3, 4]])


def test_image_of_five_with_kernel_of_three() -> None:
    """003_2444bc7fa30d6853.txt, 567-606; the last pixel is 1, as in three of the four prints (571 has 7)."""
    image = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
    found = correlated(image, [[0, 1, 2], [2, 2, 0], [0, 1, 2]])
    np.testing.assert_array_equal(found, [[12, 12, 17], [10, 17, 19], [9, 6, 14]])


def test_image_of_five_with_padding_and_stride_two() -> None:
    """003_2444bc7fa30d6853.txt, 646-654.

    Printed as 1 6 5, 7 10 9 and 7 10 8. No kernel a b c, d e f, g h i of whole numbers gives that from the input
    printed: the last of the first row is 3 (d + e + h). The kernel printed gives these.
    """
    image = [[2, 2, 3, 3, 3], [0, 1, 3, 0, 3], [2, 3, 0, 1, 3], [3, 3, 2, 1, 2], [3, 3, 0, 2, 3]]
    found = correlated(image, [[2, 0, 1], [1, 0, 0], [0, 1, 1]], padding=1, strides=2)
    np.testing.assert_array_equal(found, [[1, 5, 6], [7, 8, 3], [3, 10, 4]])


def test_colour_image_with_bias() -> None:
    """002_99c791af916edae9.txt, 921-995: the channels give 308, -498 and 164; with a bias of 1, -25 in all."""
    red = [[156, 155, 156], [153, 154, 157], [149, 151, 155]]
    green = [[167, 166, 167], [164, 165, 168], [160, 162, 166]]
    blue = [[163, 162, 163], [160, 161, 164], [156, 158, 162]]
    kernels = [
        [[-1, -1, 1], [0, 1, -1], [0, 1, 1]],
        [[1, 0, 0], [1, -1, -1], [1, 0, -1]],
        [[0, 1, 1], [0, 1, 0], [1, -1, 1]],
    ]
    image = np.stack([red, green, blue], axis=-1).astype(np.float32)[None]
    kernel = np.stack(kernels, axis=-1).astype(np.float32)
    each = correlate(image, kernel[..., None, :], groups=3, padding=1)  # a channel alone: depthwise
    np.testing.assert_array_equal(each[0, 0, 0], [308, -498, 164])
    layer = Conv(features=1, kernel_size=3, padding=1)
    found = layer.apply({"params": {"kernel": kernel[..., None], "bias": np.ones(1, np.float32)}}, image)
    assert found.shape == (1, 3, 3, 1)  # it has a depth, but moves in two dimensions (1000-1005)
    assert found[0, 0, 0, 0] == -25


def test_the_index_formula_of_several_channels() -> None:
    """000_62aab441bdec7d37.txt, 663: a_ijf = sum over k, m, n of x_{i+m, j+n, k} w_{m, n, f, k}.

    Printed with the offsets at w and none at x, which would add up all of x at every position. Each entry of the kernel
    is a matrix of F x K (681); here it is stored as K x F.
    """
    rng = np.random.default_rng(0)
    x, w = rng.integers(-3, 4, (4, 5, 2)), rng.integers(-3, 4, (2, 3, 3, 2))
    expected = np.zeros((3, 3, 3))
    for i, j, f, k, m, n in np.ndindex(3, 3, 3, 2, 2, 3):
        expected[i, j, f] += x[i + m, j + n, k] * w[m, n, f, k]
    found = correlate(jnp.asarray(x[None], jnp.float32), jnp.asarray(w.swapaxes(2, 3), jnp.float32))
    np.testing.assert_array_equal(found[0], expected)


def test_classic_kernels_are_convolved_with_an_image() -> None:
    """000_62aab441bdec7d37.txt, 182-198, and 002_99c791af916edae9.txt, 870-895; here the kernels are flipped.

    Identity, edges, sharpening, box, Gaussian, unsharp masking, twice the image minus its mean, a shift to the left.
    """
    names = ["identity", "edges", "sharpen", "box", "gaussian_3x3", "unsharp_3x3", "sharpen_box", "shift_left"]
    image = np.random.default_rng(1).integers(0, 10, (6, 7)).astype(np.float32)
    kernels = np.stack([KERNELS[name] for name in names], axis=-1)[:, :, None]
    found = np.asarray(convolve(image[None, :, :, None], kernels, padding="same"))[0]
    for name, output in zip(names, found.transpose(2, 0, 1), strict=True):
        expected = scipy.ndimage.convolve(image, KERNELS[name], mode="constant")
        np.testing.assert_allclose(output, expected, atol=1e-4, err_msg=name)
    np.testing.assert_array_equal(found[..., 0], image)
    np.testing.assert_array_equal(found[:, :-1, -1], image[:, 1:])


@pytest.mark.parametrize(
    ("size", "window", "padding", "stride", "expected"),
    [
        (8, 3, 0, 1, 6),  # 002_99c791af916edae9.txt, 711-737, of its own series of 411
        (8, 3, 1, 1, 8),  # 542
        (7, 3, 1, 2, 4),  # 660
        (6, 3, 0, 1, 4),  # 747
        (5, 3, 1, 2, 3),  # 003_2444bc7fa30d6853.txt, 641-654
        (5, 3, 1, 1, 5),  # 628
        (32, 5, 0, 1, 28),  # 675-680
    ],
)
def test_output_size(size: int, window: int, padding: int, stride: int, expected: int) -> None:
    """(W + 2 P - K) / S + 1, and with two paddings (002_99c791af916edae9.txt, 862)."""
    assert output_size(size, window, stride, (padding, padding), exact=True) == expected
    assert output_size(size, window, stride, (0, 2 * padding), exact=True) == expected


def test_output_size_must_be_whole_where_that_is_asked_for() -> None:
    """002_99c791af916edae9.txt, 737."""
    with pytest.raises(ValueError, match=r"3\.5 positions"):
        output_size(8, 3, 2, exact=True)


def test_dense_layer_on_an_image_of_256() -> None:
    """004_ff7ec25d1690b81c.txt, 62-68: 3 x 256 x 256 x 1,000 weights."""
    assert parameters(Dense(1000), 256, 256, 3)["kernel"] == 196_608_000


def test_edge_detector_by_convolution_and_by_a_dense_layer() -> None:
    """000_62aab441bdec7d37.txt, 429-433: [-1, 1] on 280 x 320.

    Printed: 280 x 319 or about 2 x 10^5 operations. 280 x 319 = 89,320 outputs take two multiplications each, 178,640.
    The dense layer has 8 x 10^9 weights, a multiply-add each, or 16 x 10^9 operations of one kind.
    """
    image = jax.ShapeDtypeStruct((1, 280, 320, 1), jnp.float32)
    kernel = jax.ShapeDtypeStruct((1, 2, 1, 1), jnp.float32)
    assert jax.eval_shape(correlate, image, kernel).shape == (1, 280, 319, 1)
    sparse = multiply_adds(correlate, image, kernel)
    assert sparse == 2 * 280 * 319 == 178_640
    layer = Dense(280 * 319)
    variables = jax.eval_shape(layer.init, jax.random.key(0), image)
    dense = multiply_adds(layer.apply, variables, image)
    assert dense == parameters(layer, 280, 320, 1)["kernel"] == 280 * 320 * 280 * 319 == 8_003_072_000
    assert dense // sparse == 280 * 320 // 2
    small = np.random.default_rng(0).integers(0, 9, (3, 6)).astype(np.float32)
    np.testing.assert_array_equal(correlated(small, KERNELS["difference"]), np.diff(small))


def test_parameters_of_layers() -> None:
    """002_99c791af916edae9.txt, 1104-1109: (F F C + 1) K, none, (N_in + 1) N_out.

    The layer of six 5 x 5 filters on 32 x 32 gives 28 x 28 x 6 (003_2444bc7fa30d6853.txt, 675-680).
    """
    layer, image = Conv(features=6, kernel_size=5, padding="valid"), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    output, _ = jax.eval_shape(layer.init_with_output, jax.random.key(0), image)
    assert output.shape == (1, 28, 28, 6)
    assert sum(parameters(layer, 32, 32, 3).values()) == (5 * 5 * 3 + 1) * 6
    assert sum(parameters(Dense(10), 28, 28, 6).values()) == (28 * 28 * 6 + 1) * 10


def test_sharing_makes_parameters_independent_of_the_size_and_sparseness_cheap() -> None:
    """000_62aab441bdec7d37.txt, 395-420: N^2 against S a layer; 001_dbf4440b6b16890f.txt, 227-229: k n products."""
    for n in (10, 50):
        line, kernel = jax.ShapeDtypeStruct((1, n, 1), jnp.float32), jax.ShapeDtypeStruct((3, 1, 1), jnp.float32)
        assert parameters(Dense(n), n, 1)["kernel"] == n**2
        assert parameters(Conv(features=1, kernel_size=3), n, 1)["kernel"] == 3
        assert multiply_adds(lambda x, k: correlate(x, k, padding="same"), line, kernel) == 3 * n
