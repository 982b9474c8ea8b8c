"""The Lie derivative against finite differences in NumPy and theory."""

import numpy as np
import pytest
from flax import linen as nn
from scipy import ndimage

from cnnjax.analysis.lie_derivative import GROUPS, lie_derivative_errors
from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.layers.activations import Activation, identity
from cnnjax.layers.blocks import ConvBlock
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.layers.region_pooling import GlobalPool
from cnnjax.models.network import Network, Stage
from cnnjax.ops.borders import Border
from cnnjax.ops.pooling import global_average_pool
from tests.variables import drawn_variables

RNG = np.random.default_rng(5)
SIGNALS = RNG.normal(size=(5, 8, 1)).astype(np.float32)
IMAGES = RNG.normal(size=(3, 6, 6, 1)).astype(np.float32)
DIMENSIONS = pytest.mark.parametrize(("images", "name"), [(SIGNALS, "shift"), (IMAGES, "translation")])


def pooled(images: np.ndarray, act: Activation, border: Border = "circular") -> Subject:
    stage = Stage("stage", ConvBlock(Conv(3, 3, border=border), act))
    model = Network((stage, Stage("pool", GlobalPool(global_average_pool)), Stage("head", Dense(2))))
    return Subject(model, drawn_variables(model, images[:1].shape), (0.0,), (1.0,))


def values(subject: Subject, images: np.ndarray, name: str) -> dict[str | None, float]:
    findings = lie_derivative_errors(subject, images, name, batch_size=2)
    assert {f.metric for f in findings} == {f"{name}/lie_derivative"}
    assert all(f.low <= f.value <= f.high for f in findings)
    return {f.stage: f.value for f in findings}


@DIMENSIONS
def test_linear_circular_convolutions_have_none(images: np.ndarray, name: str) -> None:
    assert max(values(pooled(images, identity), images, name).values()) < 1e-5


def test_linear_convolutions_without_padding_have_none_either() -> None:
    """The signal ends so far from the border that no field that sees it leaves the grid."""
    model = Network((Stage("stage", Conv(3, 4, padding="valid", use_bias=False)), Stage("head", Dense(2))))
    signals = np.pad(SIGNALS, ((0, 0), (10, 11), (0, 0)))
    subject = Subject(model, drawn_variables(model, signals[:1].shape), (0.0,), (1.0,))
    assert values(subject, signals, "shift")["stage"] < 1e-5


@pytest.mark.slow
@DIMENSIONS
def test_a_detector_has_one_that_pooling_does_not_undo(images: np.ndarray, name: str) -> None:
    found = values(pooled(images, nn.relu), images, name)
    assert found["input"] < 1e-6
    assert min(found["stage"], found["pool"], found["head"]) > 0.01


@pytest.mark.slow
def test_behind_a_smooth_detector_it_vanishes_with_the_bandwidth() -> None:
    """A wave of w radians a sample has slopes of about w, and their central differences are off by w^2 / 6 of that:
    eight times less at half of w."""
    found = []
    for length in (32, 64):
        wave = np.cos(2 * np.pi * (np.arange(length) / length + RNG.uniform(size=(3, 1))))[..., None]
        signals = wave.astype(np.float32)
        found.append(values(pooled(signals, nn.tanh), signals, "shift")["stage"])
    assert found[0] < 0.01
    assert 7 < found[0] / found[1] < 9


def test_a_strided_stage_moves_in_its_own_samples() -> None:
    """By NumPy: d phi(x) [x'] - D phi(x) / 2, D being the central difference on each grid."""
    model = Network(
        (Stage("stage", ConvBlock(Conv(3, 3, strides=2, padding=1), nn.leaky_relu)), Stage("head", Dense(2)))
    )
    subject = Subject(model, drawn_variables(model, (1, 8, 1)), (0.0,), (1.0,))
    found = values(subject, SIGNALS, "shift")

    def slope(x: np.ndarray) -> np.ndarray:
        return (np.roll(x, 1, axis=1) - np.roll(x, -1, axis=1)) / 2

    params = subject.variables["params"]["stage"]["conv"]
    windows = [np.pad(x.astype(np.float64), ((0, 0), (1, 1), (0, 0))) for x in (SIGNALS, slope(SIGNALS))]
    before, moving = (
        np.stack([np.tensordot(x[:, 2 * i : 2 * i + 3], params["kernel"], 2) for i in range(4)], axis=1)
        for x in windows
    )
    before = before + params["bias"]
    features = np.where(before > 0, before, 0.01 * before)
    derivative = np.where(before > 0, moving, 0.01 * moving) - slope(features) / 2
    expected = np.mean([np.linalg.norm(d) / np.linalg.norm(f) for d, f in zip(derivative, features, strict=True)])
    np.testing.assert_allclose(found["stage"], expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rotation", "scale", "shear"])
def test_turns_and_sizes_are_the_limit_of_small_ones(name: str) -> None:
    """The images are moved by SciPy."""
    subject = pooled(IMAGES, nn.tanh, "zeros")
    found = values(subject, IMAGES, name)

    def matrix(t: float) -> np.ndarray:
        angle = np.deg2rad(t)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        return {"rotation": turn, "scale": np.eye(2) * 2**-t, "shear": np.array([[1, 0], [t, 1]])}[name]

    def moved(x: np.ndarray, t: float) -> np.ndarray:
        padded = np.pad(x.astype(np.float64), ((0, 0), (2, 2), (2, 2), (0, 0)))
        centre = (np.array(padded.shape[1:3]) - 1) / 2
        offset = centre - matrix(t) @ centre
        each = [
            [ndimage.affine_transform(padded[i, :, :, c], matrix(t), offset, order=1) for c in range(x.shape[3])]
            for i in range(len(x))
        ]
        return np.moveaxis(np.array(each), 1, 3)[:, 2:-2, 2:-2]

    step = 0.1 if name == "rotation" else 1e-2
    there = [stage_outputs(subject, moved(IMAGES, t).astype(np.float32)) for t in (step, -step)]
    after = [moved(np.asarray(outputs["stage"]), -t) for outputs, t in zip(there, (step, -step), strict=True)]
    slope = (after[0] - after[1]) / (2 * step)
    size = np.asarray(stage_outputs(subject, IMAGES)["stage"])
    expected = np.mean([np.linalg.norm(slope[i]) / np.linalg.norm(size[i]) for i in range(3)])
    np.testing.assert_allclose(found["stage"], expected, rtol=2e-2)


def test_what_is_no_group_is_refused() -> None:
    with pytest.raises(ValueError, match=f"along 'blur'; there are: {', '.join(GROUPS)}"):
        lie_derivative_errors(pooled(IMAGES, identity), IMAGES, "blur")
