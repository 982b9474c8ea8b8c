"""What all transformations have in common: the identity at 0, a magnitude for each example, one compilation, slopes."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.ops.keys import fold_in_each
from cnnjax.ops.transformations import TRANSFORMATIONS, default_magnitudes, transformation
from cnnjax.ops.transformations.table import check_transformation, find

NAMES = list(TRANSFORMATIONS)
KEYS = jax.random.split(jax.random.key(3), 3)
NAMED_BY_THE_ISSUE = {
    *("translation", "rotation", "scale", "shear", "reflection", "perspective", "elastic", "stroke_weight", "blur"),
    *("noise", "brightness", "contrast", "gamma", "occlusion", "clutter"),
    *("shift", "stretch", "gain", "signal_noise"),
}


def batch(name: str, examples: int = 3) -> np.ndarray:
    """Pixels 0..255 with black and white ones among them, and no symmetry."""
    shape = (examples, 7, 6, 2) if TRANSFORMATIONS[name].dimensions == 2 else (examples, 9, 2)
    pixels = np.random.default_rng(5).uniform(-100, 355, shape)
    return np.clip(pixels, 0, 255).astype(np.float32)


@functools.cache
def compiled(name: str) -> Any:
    """From images, three magnitudes and keys to the value, and its derivative by the magnitude by forward mode."""
    apply = transformation(name)
    return jax.jit(lambda x, m, keys: jax.jvp(lambda m: apply(x, m, keys), (m,), (jnp.ones_like(m),)))


def value(name: str, x: np.ndarray, magnitudes: Any, keys: jax.Array = KEYS) -> np.ndarray:
    return np.asarray(compiled(name)(x, np.broadcast_to(np.float32(magnitudes), 3), keys)[0])


def test_the_table_has_what_the_issue_names() -> None:
    assert set(NAMES) == NAMED_BY_THE_ISSUE
    assert {e.name for e in TRANSFORMATIONS.values() if e.dimensions == 1} == {
        "shift",
        "stretch",
        "gain",
        "signal_noise",
    }
    assert {e.name for e in TRANSFORMATIONS.values() if e.random} == {
        "elastic",
        "noise",
        "occlusion",
        "clutter",
        "signal_noise",
    }
    assert all(entry.name == name and entry.unit for name, entry in TRANSFORMATIONS.items())


@pytest.mark.parametrize("name", NAMES)
def test_magnitude_0_is_the_identity_bit_for_bit(name: str) -> None:
    x = batch(name)
    same, tangent = compiled(name)(x, np.zeros(3, np.float32), KEYS)
    assert np.asarray(same).tobytes() == x.tobytes()
    assert np.all(np.isfinite(tangent))


@pytest.mark.parametrize("name", NAMES)
def test_each_example_has_its_own_magnitude_and_all_compile_once(name: str) -> None:
    x = batch(name)
    magnitudes = default_magnitudes(name)[[3, 10, 18]]
    together = value(name, x, magnitudes)
    alone = [value(name, x, m)[i] for i, m in enumerate(magnitudes)]
    assert compiled(name)._cache_size() == 1
    np.testing.assert_array_equal(together, alone)
    assert together.dtype == x.dtype and together.shape == x.shape
    assert not np.allclose(alone[2], x[2], atol=1)


@pytest.mark.parametrize("name", NAMES)
def test_slope_is_that_of_finite_differences_at_0_and_elsewhere(name: str) -> None:
    """At a kink, as at 0, it is the mean of the slopes at both sides, to which the symmetric difference tends."""
    x = batch(name)
    low, high = TRANSFORMATIONS[name].range
    magnitudes = np.array([0 if low < 0 else high * 0.02, 0.37 * high, 0.61 * high], np.float32)
    step = 2e-3 * high
    expected = (value(name, x, magnitudes + step) - value(name, x, magnitudes - step)) / (2 * step)
    error = np.abs(np.asarray(compiled(name)(x, magnitudes, KEYS)[1]) - expected)
    scale = np.max(np.abs(expected))
    # Elsewhere the step may cross the kink of some pixel.
    assert np.mean(error > 0.02 * scale + 0.5 / high) < 0.06
    if low < 0:
        assert np.max(error[0]) < 0.02 * scale + 0.5 / high


@pytest.mark.parametrize("name", [n for n in NAMES if TRANSFORMATIONS[n].random])
def test_random_ones_draw_from_each_example_s_key(name: str) -> None:
    x, magnitude = batch(name), default_magnitudes(name)[12]
    changed = value(name, x, magnitude)
    assert not np.array_equal(changed[0], value(name, x, magnitude, KEYS[::-1])[0])
    np.testing.assert_array_equal(changed[::-1], value(name, x[::-1], magnitude, KEYS[::-1]))
    for wrong in (KEYS[:2], None, jax.random.PRNGKey(0)):
        with pytest.raises(ValueError, match=r"takes one key or 3; given shape|needs a key"):
            transformation(name)(x, magnitude, wrong)


def test_one_key_and_one_magnitude_serve_all_examples() -> None:
    x = np.stack([batch("signal_noise")[0]] * 3)
    apply = jax.jit(transformation("signal_noise"))
    changed = apply(x, 0.5, jax.random.key(3))
    assert not np.array_equal(changed[0], changed[1])
    np.testing.assert_array_equal(changed, apply(x, 0.5, jax.random.key(3)))
    assert not np.array_equal(changed, apply(x, 0.5, jax.random.key(4)))
    np.testing.assert_array_equal(
        changed, value("signal_noise", x, 0.5, fold_in_each(jax.random.key(3), jnp.arange(3)))
    )


@pytest.mark.parametrize("name", [n for n in NAMES if TRANSFORMATIONS[n].dimensions == 2])
def test_legal_pixels_stay_legal_over_the_whole_range(name: str) -> None:
    x = batch(name)
    for magnitude in default_magnitudes(name)[[0, 6, 14, 20]]:
        changed = value(name, x, magnitude)
        assert np.all((changed >= 0) & (changed <= 255.001)), magnitude


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_has_21_even_magnitudes_and_0_among_them(name: str) -> None:
    magnitudes = default_magnitudes(name)
    low, high = TRANSFORMATIONS[name].range
    assert magnitudes.shape == (21,) and magnitudes.dtype == np.float32
    assert (magnitudes[0], magnitudes[-1]) == (np.float32(low), np.float32(high)) and 0 in magnitudes
    np.testing.assert_allclose(np.diff(magnitudes), (high - low) / 20, rtol=1e-4)


def test_half_precision_is_kept() -> None:
    x = jnp.asarray(batch("shear"), jnp.bfloat16)
    both = jax.jit(lambda x, m: [transformation(name)(x, m) for name in ("shear", "contrast")])
    for same in both(x, 0.0):
        assert same.dtype == jnp.bfloat16
        assert np.asarray(same).tobytes() == np.asarray(x).tobytes()


def test_settings_stand_behind_the_name() -> None:
    x = batch("rotation")
    down = transformation("translation(border=zeros, direction=(1, 0))")(x, 2.0)
    np.testing.assert_array_equal(down[:, 2:], x[:, :-2])
    np.testing.assert_array_equal(down[:, :2], 0)
    np.testing.assert_array_equal(transformation("translation(border=zeros)", border="circular")(x, 7.0 - 1), x)
    assert find("translation(border=zeros)") is TRANSFORMATIONS["translation"]
    np.testing.assert_array_equal(default_magnitudes("blur(radius=1)", 3), default_magnitudes("blur", 3))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rotation(border)", r"reads NAME or NAME\(SETTING=VALUE, ...\)"),
        ("rotation(border=zeros", "reads NAME"),
        ("rotation(border=1 + x)", "reads NAME"),
        ("rotation(edge=zeros)", "'rotation' has no setting 'edge'; there are: border, interpolation"),
        ("rotation(border=wrapped)", "unknown border 'wrapped'; there are: circular, zeros, edge"),
        ("translation(direction=1)", "translation.direction=1.: a setting is of a wrong type"),
        ("translation(crop=1)", r"makes \(5, 4, 2\) of images \(7, 6, 2\); they have to keep their size"),
        ("gain", "gain is for 1 spatial dimensions; the data have 2"),
        ("spin(a=1)", "unknown transformation 'spin'; there are: translation"),
    ],
)
def test_what_cannot_be_done_to_images_of_a_shape_is_said(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_transformation(name, (7, 6, 2))


def test_every_transformation_is_for_images_of_its_dimensions() -> None:
    for name, entry in TRANSFORMATIONS.items():
        check_transformation(name, (7, 6, 2) if entry.dimensions == 2 else (9, 2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: transformation("rotate"), "unknown transformation 'rotate'; there are: translation, rotation"),
        (lambda x: default_magnitudes("twist"), "unknown transformation 'twist'"),
        (lambda x: transformation("blur", sigma=2), "has no setting 'sigma'; there are: radius, border"),
        (lambda x: transformation("gain", border="edge"), "there are: none"),
        (lambda x: transformation("rotation")(x[0], 1.0), "takes a batch .N, H, W, C."),
        (lambda x: transformation("shift")(x, 1.0), "takes a batch .N, W, C."),
        (lambda x: transformation("shear")(x, jnp.ones(2)), "one for each of 3 examples"),
        (lambda x: transformation("blur")(x.astype(np.uint8), 1.0), "given uint8"),
        (lambda x: transformation("gamma", low=1, high=1)(x, 1.0), "low < high; given 1 and 1"),
    ],
)
def test_bad_input_is_said(call: Callable[[np.ndarray], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(batch("rotation"))
