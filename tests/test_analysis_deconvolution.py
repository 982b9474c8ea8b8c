"""Deconvolution of linear stages is the transposed convolution; at ReLUs and switches it is done by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.analysis.deconvolution import deconvolution
from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.layers.blocks import DenseBlock
from cnnjax.layers.dense import Dense
from cnnjax.models.convnet import convnet
from cnnjax.models.network import Network, Stage
from tests.variables import drawn_variables

RNG = np.random.default_rng(0)


def subject_of(model: Network, images: np.ndarray) -> Subject:
    channels = images.shape[-1]
    return Subject(model, drawn_variables(model, images.shape), (120.0,) * channels, (60.0,) * channels)


@pytest.mark.parametrize("spatial", [(9,), (6, 5)])
def test_linear_stage_is_the_transposed_convolution(spatial: tuple[int, ...]) -> None:
    images = RNG.integers(0, 256, (3, *spatial, 2)).astype(np.uint8)
    subject = subject_of(convnet(3, width=4, depth=1, kernel_size=3, act="identity", pool="none"), images)
    kernel = subject.variables["params"]["stage1"]["conv"]["kernel"]
    features = np.asarray(stage_outputs(subject, jnp.asarray(images))["stage1"])
    units = [3, 0, 2]
    found = deconvolution(subject, images, "stage1", units, batch_size=2)
    assert found.shape == (3, 3, *spatial, 2)
    for n, i in np.ndindex(3, 3):
        unit = units[i]
        own = features[n, ..., unit]
        position = np.unravel_index(own.argmax(), own.shape)
        expected = np.zeros([size + 2 for size in spatial] + [2])
        expected[tuple(slice(p, p + 3) for p in position)] = own[position] * kernel[..., unit]
        inner = expected[tuple(slice(1, -1) for _ in spatial)]
        np.testing.assert_allclose(found[n, i], inner, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["deconvnet", "guided"])
def test_relus_of_an_mlp_by_hand(form: str) -> None:
    images = RNG.integers(0, 256, (4, 6, 1)).astype(np.uint8)
    blocks = [Stage(f"stage{i}", DenseBlock(Dense(5), nn.relu)) for i in (1, 2)]
    subject = subject_of(Network((*blocks, Stage("head", Dense(3)))), images)
    params = subject.variables["params"]
    layers = [params["stage1"]["dense"], params["stage2"]["dense"], params["head"]]
    x = ((images.astype(np.float64) - 120) / 60).reshape(4, -1)
    masks = []
    for layer in layers[:-1]:
        x = x @ layer["kernel"] + layer["bias"]
        masks.append(x > 0)
        x = np.maximum(x, 0)
    logits = x @ layers[-1]["kernel"] + layers[-1]["bias"]
    found = deconvolution(subject, images, "head", [0, 1, 2], form=form)
    for unit in range(3):
        signal = logits[:, [unit]] * layers[-1]["kernel"][:, unit]
        for layer, mask in zip(layers[-2::-1], masks[::-1], strict=True):
            signal = np.maximum(signal, 0) * (mask if form == "guided" else 1)
            signal = signal @ layer["kernel"].T
        np.testing.assert_allclose(found[:, unit, :, 0], signal, rtol=1e-4, atol=1e-5)


def test_pooling_goes_back_by_its_switches() -> None:
    images = RNG.permutation(16).reshape(1, 16, 1).astype(np.float32)
    model = convnet(2, width=1, depth=2, kernel_size=1)
    variables = drawn_variables(model, images.shape)
    for stage, kernel in {"stage1": np.ones((1, 1, 1)), "stage2": np.ones((1, 1, 2))}.items():
        variables["params"][stage]["conv"] = {"kernel": kernel.astype(np.float32), "bias": np.zeros(kernel.shape[-1])}
    subject = Subject(model, variables, (0.0,), (1.0,), 0.0, 15.0)
    (found,) = deconvolution(subject, images, "stage2", [1])[0]
    # Two poolings of 2 pass on the 15 alone, and it comes back to where it was.
    np.testing.assert_array_equal(found, np.where(images[0] == 15, 15, 0))


def test_bad_requests() -> None:
    images = np.zeros((1, 8, 1), np.float32)
    subject = subject_of(convnet(3, width=2, depth=1, kernel_size=3), images)
    with pytest.raises(ValueError, match="no form 'gradient'; there are: deconvnet, guided"):
        deconvolution(subject, images, "stage1", [0], form="gradient")
    with pytest.raises(ValueError, match="no stage 'input'; there are: stage1, head"):
        deconvolution(subject, images, "input", [0])
    with pytest.raises(ValueError, match="units of 'stage1' are whole numbers from 0 to 1"):
        deconvolution(subject, images, "stage1", [2])
