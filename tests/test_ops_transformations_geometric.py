"""Moved, turned, sized and slanted images against SciPy, and the cases that are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cnnjax.ops.transformations import perspective, reflection, rotation, scale, shear, translation
from cnnjax.ops.transformations.geometric import cosine_and_sine

move = jax.jit(translation, static_argnames=("border", "crop", "interpolation"))
turn = jax.jit(rotation)
size_up = jax.jit(scale)
slant = jax.jit(shear, static_argnames="border")
view = jax.jit(perspective, static_argnames=("axis", "distance"))


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (2, height, width, 2)).astype(np.float32)


def affine(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """SciPy's: the output at p, counted from the centre, is the input at matrix @ p."""
    centre = (np.array(x.shape[1:3]) - 1) / 2
    offset = centre - matrix @ centre
    out = np.empty_like(x)
    for n, c in np.ndindex(x.shape[0], x.shape[3]):
        out[n, ..., c] = ndimage.affine_transform(x[n, ..., c], matrix, offset, order=1, mode="grid-constant")
    return out


@given(st.sampled_from([(6, 6), (5, 8)]), st.floats(-1, 1, width=32))
def test_turned_sized_and_slanted_as_by_scipy(size: tuple[int, int], m: float) -> None:
    x = pixels(*size)
    angle = np.deg2rad(180 * m)
    cosine, sine = np.cos(angle), np.sin(angle)
    cases = [
        (turn, 180 * m, [[cosine, sine], [-sine, cosine]]),
        (size_up, m, np.eye(2) / 2**m),
        (slant, m, [[1, 0], [m, 1]]),
    ]
    for function, magnitude, matrix in cases:
        np.testing.assert_allclose(function(x, magnitude), affine(x, np.array(matrix)), atol=0.02)


@given(
    st.sampled_from([("circular", "grid-wrap"), ("zeros", "grid-constant"), ("edge", "nearest")]),
    st.floats(-9, 9, width=32),
    st.sampled_from([(0, 1), (1, 0), (-1, 2)]),
)
def test_sub_pixel_translation_is_that_of_scipy(modes: tuple, m: float, direction: tuple[int, int]) -> None:
    x = pixels(5, 6)
    moved = (0, m * direction[0], m * direction[1], 0)
    expected = ndimage.shift(x, moved, order=1, mode=modes[1])
    np.testing.assert_allclose(move(x, m, direction=direction, border=modes[0]), expected, atol=0.02)


def test_whole_pixels_are_exact() -> None:
    x = pixels(5, 6)
    for m in (-7, -1, 0, 2, 6):
        np.testing.assert_array_equal(move(x, m), np.roll(x, m, 2))
    np.testing.assert_array_equal(move(x, 2, direction=(1, 0)), np.roll(x, 2, 1))
    zeros = move(x, -2, border="zeros")
    np.testing.assert_array_equal(zeros, np.pad(x[:, :, 2:], ((0, 0), (0, 0), (0, 2), (0, 0))))
    cubic = move(x, 3, interpolation="cubic")
    np.testing.assert_array_equal(cubic, np.roll(x, 3, 2))


def test_a_crop_shows_pixels_of_the_image_alone() -> None:
    x = pixels(7, 8)
    for m in (-2, 0, 1, 2):
        for border in ("circular", "zeros", "edge"):
            seen = move(x, m, crop=2, border=border)
            np.testing.assert_array_equal(seen, x[:, 2:-2, 2 - m : 6 - m])
    for crop in (-1, 4):
        with pytest.raises(ValueError, match=f"a crop of {crop} pixels"):
            translation(x, 1, crop=crop)


@pytest.mark.parametrize("size", [(5, 5), (4, 4), (3, 6)])
def test_quarter_turns_are_exact(size: tuple[int, int]) -> None:
    x = pixels(*size)
    np.testing.assert_array_equal(turn(x, 180), np.rot90(x, 2, (1, 2)))
    np.testing.assert_array_equal(turn(x, -720), x)
    if size[0] == size[1]:
        for quarters in (-3, -1, 1, 5):
            turned = turn(x, np.array([90.0 * quarters, 0]))
            np.testing.assert_array_equal(turned[0], np.rot90(x[0], quarters))
            np.testing.assert_array_equal(turned[1], x[1])


def test_whole_octaves_and_slopes_are_exact() -> None:
    x = pixels(5, 5)
    halved = np.zeros_like(x)
    halved[:, 1:4, 1:4] = x[:, ::2, ::2]
    np.testing.assert_array_equal(size_up(x, -1), halved)
    np.testing.assert_array_equal(size_up(x, 1)[:, ::2, ::2], x[:, 1:4, 1:4])
    slanted = np.stack([np.roll(x[:, row], 2 - row, 1) for row in range(5)], 1)
    np.testing.assert_array_equal(slant(x, 1, border="circular"), slanted)


def test_reflections_are_exact_and_undo_themselves() -> None:
    x = pixels(4, 5)
    np.testing.assert_array_equal(reflection(x, 1), x[:, :, ::-1])
    np.testing.assert_array_equal(reflection(x, 1, axis="horizontal"), x[:, ::-1])
    np.testing.assert_array_equal(reflection(reflection(x, 1), 1), x)
    np.testing.assert_allclose(reflection(x, 0.25), 0.75 * x + 0.25 * x[:, :, ::-1], rtol=1e-6)
    with pytest.raises(ValueError, match="unknown axis 'left'; there are: vertical, horizontal"):
        reflection(x, 1, axis="left")  # type: ignore[arg-type]


@pytest.mark.parametrize("axis", ["vertical", "horizontal"])
def test_perspective_is_that_of_a_pinhole_camera(axis: str) -> None:
    """For each pixel the ray through it is met with the turned plane, by solving for the point where they cross."""
    height, width, degrees, distance = 6, 8, 35.0, 1.5
    x = pixels(height, width)
    angle, far = np.deg2rad(degrees), distance * width
    normal_axis = np.array([np.cos(angle), 0, np.sin(angle)]) if axis == "vertical" else None
    across = normal_axis if normal_axis is not None else np.array([0, np.cos(angle), np.sin(angle)])
    along = np.array([0.0, 1, 0]) if axis == "vertical" else np.array([1.0, 0, 0])
    expected = np.zeros_like(x)
    for row, column in np.ndindex(height, width):
        # The screen lies in the plane z = 0, the camera `far` before it: camera + t ray = a across + b along.
        ray = np.array([column - (width - 1) / 2, row - (height - 1) / 2, far])
        a, b, _ = np.linalg.solve(np.stack([across, along, -ray], 1), np.array([0, 0, -far]))
        u, v = (a, b) if axis == "vertical" else (b, a)
        at = [[v + (height - 1) / 2], [u + (width - 1) / 2]]
        for n, c in np.ndindex(2, 2):
            expected[n, row, column, c] = ndimage.map_coordinates(x[n, ..., c], at, order=1, mode="grid-constant")[0]
    found = view(x, degrees, axis=axis, distance=distance)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, atol=0.02)
    # Seen from the other side, all is mirrored.
    other = view(x[:, ::-1, ::-1], -degrees, axis=axis, distance=distance)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, other[:, ::-1, ::-1], atol=0.02)
    with pytest.raises(ValueError, match="1 length of the image away"):
        perspective(x, 10, distance=0.5)


def test_angles_are_exact_at_quarters_and_have_their_slope_there() -> None:
    degrees = jnp.array([-90.0, 0, 90, 180, 270, 30])
    (cosine, sine), (down, up) = jax.jvp(cosine_and_sine, (degrees,), (jnp.ones(6),))
    np.testing.assert_array_equal(cosine[:5], [0, 1, 0, -1, 0])
    np.testing.assert_array_equal(sine[:5], [-1, 0, 1, 0, -1])
    np.testing.assert_allclose(cosine[5], np.sqrt(3) / 2, rtol=1e-6)
    np.testing.assert_allclose(down, -np.deg2rad(1) * sine, rtol=1e-5)
    np.testing.assert_allclose(up, np.deg2rad(1) * cosine, rtol=1e-5)


@pytest.mark.parametrize("interpolation", ["linear", pytest.param("cubic", marks=pytest.mark.slow)])
def test_slopes_at_0_are_the_generators_of_the_group(interpolation: str) -> None:
    """Of a parabola, whose central differences are its derivatives: what the Lie derivative is built from."""
    down, right = np.meshgrid(np.arange(9) - 4.0, np.arange(7) - 3.0, indexing="ij")
    image = (down**2 + 2 * down * right - 3 * right**2).astype(np.float32)[None, ..., None]
    by_row, by_column = 2 * down + 2 * right, 2 * down - 6 * right
    generators = {
        translation: -by_column,
        rotation: np.deg2rad(1) * (by_row * right - by_column * down),
        scale: -np.log(2) * (by_row * down + by_column * right),
        shear: by_column * down,
        perspective: np.deg2rad(1) / (2 * 9) * (right**2 * by_column + right * down * by_row),
    }

    def all_of_them(m: jax.Array) -> list[jax.Array]:
        return [function(image, m, interpolation=interpolation) for function in generators]

    slopes = jax.jit(lambda: jax.jvp(all_of_them, (0.0,), (1.0,))[1])()
    for slope, expected in zip(slopes, generators.values(), strict=True):
        np.testing.assert_allclose(slope[0, 2:-2, 2:-2, 0], expected[2:-2, 2:-2], atol=1e-3)
