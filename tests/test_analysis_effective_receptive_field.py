"""The effective receptive field of uniform kernels, known by theory, and of drawn ones, by finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.analysis.effective_receptive_field import effective_receptive_field, map_deviation
from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.layers.blocks import ConvBlock
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.models.network import Network, Stage
from tests.variables import drawn_variables


def plain(depth: int, window: int, channels: int) -> Network:
    stages = [Stage(f"stage{n}", Conv(channels, window, use_bias=False)) for n in range(1, depth + 1)]
    return Network((*stages, Stage("head", Dense(2))))


@pytest.mark.parametrize(("dimensions", "window"), [(1, 5), (2, 3)])
def test_uniform_kernels_spread_as_theory_says(dimensions: int, window: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, *(21,) * dimensions, 1)).astype(np.uint8)
    network = plain(3, window, 1)
    variables = drawn_variables(network, images.shape)
    for stage in ("stage1", "stage2", "stage3"):
        variables["params"][stage]["kernel"] = np.ones((*(window,) * dimensions, 1, 1), np.float32)
    findings, maps = effective_receptive_field(Subject(network, variables, (9.0,), (2.0,)), images, batch_size=2)
    assert [(finding.metric, finding.stage) for finding in findings] == [
        ("effective_receptive_field", f"stage{n}") for n in (1, 2, 3)
    ]
    expected = [np.sqrt(n * (window**2 - 1) / 12) for n in (1, 2, 3)]
    np.testing.assert_allclose([finding.value for finding in findings], expected, rtol=1e-5)
    line = [1.0]
    for n in (1, 2, 3):
        line = np.convolve(line, np.ones(window))
        whole = np.pad(line, 10 - len(line) // 2)
        np.testing.assert_allclose(maps[f"stage{n}"], whole if dimensions == 1 else np.outer(whole, whole), rtol=1e-5)


def test_map_is_the_mean_size_of_differences() -> None:
    network = Network((Stage("stage1", ConvBlock(Conv(3, 3), jnp.tanh)), Stage("stage2", Conv(2, 3))))
    images = np.random.default_rng(2).normal(5, 2, (3, 6, 2)).astype(np.float32)
    subject = Subject(network, drawn_variables(network, images.shape), (5.0, 4.0), (2.0, 3.0))
    maps = effective_receptive_field(subject, images, stages=("stage2",), batch_size=2)[1]
    step, expected = 1e-2, np.zeros(6)
    middle = jax.jit(lambda x: stage_outputs(subject, x)["stage2"][:, 3].sum(-1))
    for place in np.ndindex(6, 2):
        change = np.zeros((6, 2), np.float32)
        change[place] = step * subject.std[place[1]]
        difference = np.float64(middle(images + change)) - np.float64(middle(images - change))
        expected[place[0]] += np.abs(difference / (2 * step)).mean()
    np.testing.assert_allclose(maps["stage2"], expected, atol=2e-3)
    assert expected.max() > 0.1


def test_interval_is_from_leaving_images_out() -> None:
    network = Network((Stage("stage1", ConvBlock(Conv(3, 3), jnp.tanh)), Stage("stage2", Conv(2, 3))))
    images = np.random.default_rng(2).normal(5, 2, (3, 6, 2)).astype(np.float32)
    subject = Subject(network, drawn_variables(network, images.shape), (5.0, 4.0), (2.0, 3.0))
    of = functools.partial(effective_receptive_field, subject, stages=("stage2",), batch_size=2)
    (whole,), _ = of(images)
    pseudovalues = [3 * whole.value - 2 * of(np.delete(images, i, axis=0))[0][0].value for i in range(3)]
    reach = 4.3026527 * np.std(pseudovalues, ddof=1) / 3**0.5
    assert (whole.low, whole.high) == pytest.approx((whole.value - reach, whole.value + reach), rel=1e-3)


def test_a_dead_unit_sees_nothing() -> None:
    network = Network((Stage("stage1", ConvBlock(Conv(1, 3), jax.nn.relu)), Stage("head", Dense(2))))
    images = np.zeros((1, 4, 1), np.float32)
    variables = drawn_variables(network, images.shape)
    variables["params"]["stage1"]["conv"]["bias"] = np.float32([-1])
    (finding,), maps = effective_receptive_field(Subject(network, variables, (0.0,), (1.0,)), images, batch_size=1)
    assert np.isnan(finding.value)
    np.testing.assert_array_equal(maps["stage1"], np.zeros(4))


def test_deviation_of_a_map() -> None:
    weights = np.zeros((4, 7))
    weights[1, [0, 6]] = 3
    np.testing.assert_allclose(map_deviation(weights), [0, 3])


@pytest.mark.parametrize(("stage", "message"), [("stage9", "no stage 'stage9'"), ("head", "are: input, stage1$")])
def test_wrong_stages(stage: str, message: str) -> None:
    network = plain(1, 3, 1)
    subject = Subject(network, drawn_variables(network, (1, 5, 1)), (0.0,), (1.0,))
    with pytest.raises(ValueError, match=message):
        effective_receptive_field(subject, np.zeros((1, 5, 1), np.float32), stages=(stage,))
