"""Noise, occlusion and clutter: their statistics, places and bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.ops.transformations import clutter, noise, occlusion

KEY = jax.random.key(1)
occlude = jax.jit(occlusion, static_argnames=("low", "high", "position", "fill"))
spoil = jax.jit(noise, static_argnames=("low", "high"))


def test_noise_has_the_deviation_of_its_magnitude_and_is_clipped() -> None:
    x = np.full((2, 60, 60, 1), 0.5, np.float32)
    x[:, :, :30] = 1
    weak = spoil(x, np.array([0.05, 0.1]), KEY, 0, 1)
    grey = np.asarray(weak[:, :, 30:]) - 0.5
    np.testing.assert_allclose(grey.mean((1, 2, 3)), 0, atol=0.008)
    np.testing.assert_allclose(grey.std((1, 2, 3)), [0.05, 0.1], rtol=0.07)
    white = np.asarray(weak[:, :, :30])
    assert white.max() == 1
    # Half of it is cut away, and the rest has the mean of half a normal distribution.
    np.testing.assert_allclose(np.mean(white == 1), 0.5, atol=0.03)
    np.testing.assert_allclose(1 - white.mean((1, 2, 3)), np.array([0.05, 0.1]) / np.sqrt(2 * np.pi), rtol=0.1)
    # The same is drawn at all magnitudes, and in pixels of any range.
    np.testing.assert_allclose(spoil(x * 255, 0.05, KEY, 0, 255)[0], 255 * weak[0], atol=0.01)
    assert abs(np.corrcoef(grey[0].ravel(), grey[1].ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("position", [(0.3, 0.9), (1.0, 0.45)])
def test_occlusion_covers_what_lies_under_its_rectangle(position: tuple[float, float]) -> None:
    """Each pixel as 30 x 30 points."""
    height, width, fine = 3, 6, 30
    x = np.random.default_rng(0).uniform(0, 1, (1, height, width, 1)).astype(np.float32)

    def covered(size: int, place: float, magnitude: float) -> np.ndarray:
        points = (np.arange(size * fine) + 0.5) / fine
        length = size * magnitude
        start = place * (size - length)
        return ((points > start) & (points < start + length)).reshape(size, fine).mean(1)

    for magnitude in (0, 0.05, 0.3, 0.5, 0.77, 1):
        share = np.outer(
            *(covered(size, place, magnitude) for size, place in zip((height, width), position, strict=True))
        )
        found = occlude(x, magnitude, None, 0, 1, position=position, fill=0.25)
        np.testing.assert_allclose(found[0, ..., 0], (1 - share) * x[0, ..., 0] + share * 0.25, atol=2 / fine)


def test_occlusions_known_cases() -> None:
    x = np.random.default_rng(0).uniform(0, 255, (2, 4, 8, 1)).astype(np.float32)
    corner = occlude(x, 0.5, position=(0, 1))
    expected = x.copy()
    expected[:, :2, 4:] = 127.5
    np.testing.assert_array_equal(corner, expected)
    np.testing.assert_array_equal(occlude(x, 1.0, KEY, fill=0), np.zeros_like(x))
    blank = np.asarray(occlude(np.zeros((40, 4, 8, 1), np.float32), 0.5, KEY, fill=1)) / 255
    # Wholly inside, wherever it is drawn; in the middle on average.
    np.testing.assert_allclose(blank.sum((1, 2, 3)), 8, rtol=1e-5)
    rows = np.einsum("nhwc,h->n", blank, np.arange(4)) / 8
    assert abs(rows.mean() - 1.5) < 0.35 and rows.min() < 0.8 and rows.max() > 2.2
    with pytest.raises(ValueError, match="needs a key"):
        occlusion(x, 0.5)
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]; given"):
        occlusion(x, 0.5, position=(0, 2))


def test_clutter_lies_behind_bright_pixels() -> None:
    x = np.zeros((2, 30, 30, 2), np.float32)
    x[:, 10:20] = 1
    x[:, 20:] = 0.5
    hide = jax.jit(lambda m: clutter(x, m, KEY, 0, 1, smoothness=0.5))
    full, half = (np.asarray(hide(m)) for m in (1.0, 0.5))
    np.testing.assert_array_equal(full[:, 10:20], x[:, 10:20])
    np.testing.assert_array_equal(full[..., 0], full[..., 1])
    np.testing.assert_allclose(half - x, (full - x) / 2, atol=1e-6)
    texture = np.concatenate([full[:, :10].ravel(), 2 * full[:, 20:].ravel() - 1])
    # Uniform: each tenth as often.
    counts = np.histogram(texture, 10, (0, 1))[0] / texture.size
    np.testing.assert_allclose(counts, 0.1, atol=0.03)
    with pytest.raises(ValueError, match="needs a key"):
        clutter(jnp.asarray(x), 0.5, None)
