"""Class activation maps by hand, and where they and Grad-CAM are the same."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.analysis.class_activation import class_activation_map, grad_cam
from cnnjax.analysis.subject import Subject, logits_of, stage_outputs
from cnnjax.layers.dense import Dense
from cnnjax.layers.heads import pooled_head
from cnnjax.layers.parts import Parts
from cnnjax.layers.preactivation import PreActivation
from cnnjax.layers.region_pooling import REGION_POOLS
from cnnjax.layers.sequence import Named, Sequential
from cnnjax.models import build
from cnnjax.models.convnet import convnet
from cnnjax.models.network import Network, Stage
from tests.variables import drawn_variables

RNG = np.random.default_rng(0)
CLASSES = [2, 0, 1]


def subject_of(model: Network, images: np.ndarray) -> Subject:
    return Subject(model, drawn_variables(model, images.shape), (120.0,), (60.0,))


def with_pooled_head(before: nn.Module | None = None) -> Network:
    stages = convnet(3, width=3, depth=1, kernel_size=3, pool="average").stages[:-1]
    return Network((*stages, Stage("head", pooled_head(Parts(), 3, before=before))))


@pytest.mark.parametrize("spatial", [pytest.param((12,), marks=pytest.mark.slow), (8, 6)])
def test_both_maps_agree_in_front_of_a_pooled_head(spatial: tuple[int, ...]) -> None:
    images = RNG.integers(0, 256, (3, *spatial, 1)).astype(np.uint8)
    subject = subject_of(with_pooled_head(), images)
    features = np.asarray(stage_outputs(subject, jnp.asarray(images))["stage1"])
    dense = subject.variables["params"]["head"]["dense"]
    found = class_activation_map(subject, images, CLASSES, batch_size=2)
    expected = (features @ dense["kernel"] + dense["bias"])[np.arange(3), ..., CLASSES]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    raw = grad_cam(subject, images, CLASSES, "stage1", rectify=False, batch_size=2)
    positions = raw[0].size
    bias = dense["bias"][CLASSES].reshape(3, *(1,) * len(spatial))
    np.testing.assert_allclose(positions * raw + bias, found, rtol=1e-4, atol=1e-4)
    assert (raw < 0).any()
    np.testing.assert_array_equal(grad_cam(subject, images, CLASSES, "stage1", batch_size=2), np.maximum(raw, 0))


def test_features_are_those_that_the_mean_is_taken_of() -> None:
    images = RNG.integers(0, 256, (3, 8, 1)).astype(np.uint8)
    subject = subject_of(with_pooled_head(PreActivation(jnp.tanh)), images)
    features = np.tanh(stage_outputs(subject, jnp.asarray(images))["stage1"])
    dense = subject.variables["params"]["head"]["dense"]
    expected = (features @ dense["kernel"] + dense["bias"])[np.arange(3), :, CLASSES]
    np.testing.assert_allclose(class_activation_map(subject, images, CLASSES), expected, rtol=1e-4, atol=1e-4)


def test_pooling_at_the_end_of_the_last_stage_is_undone() -> None:
    images = RNG.integers(0, 256, (3, 8, 6, 1)).astype(np.uint8)
    pooled = build("convnet", num_classes=3, width=2, depth=2, kernel_size=3, pool="global_average")
    subject = subject_of(pooled, images)
    found = class_activation_map(subject, images, CLASSES)
    assert found.shape == (3, 4, 3)
    logits = np.asarray(logits_of(subject, jnp.asarray(images)))[np.arange(3), CLASSES]
    np.testing.assert_allclose(found.mean((1, 2)), logits, rtol=1e-4, atol=1e-4)
    assert np.ptp(found, axis=(1, 2)).min() > 0.01


@pytest.mark.parametrize("pool", ["max", "global_max"])
def test_other_ends_have_no_class_activation_map(pool: str) -> None:
    images = RNG.integers(0, 256, (3, 8, 1)).astype(np.uint8)
    subject = subject_of(build("convnet", num_classes=3, width=2, depth=1, kernel_size=3, pool=pool), images)
    with pytest.raises(ValueError, match="does not end in the mean over positions"):
        class_activation_map(subject, images, CLASSES)


def test_the_greatest_of_all_positions_is_not_their_mean() -> None:
    images = RNG.integers(0, 256, (3, 8, 1)).astype(np.uint8)
    head = Sequential((Named("pool", REGION_POOLS["global_max"]()), Named("dense", Dense(3))))
    subject = subject_of(Network((*with_pooled_head().stages[:-1], Stage("head", head))), images)
    with pytest.raises(ValueError, match="does not end in the mean over positions"):
        class_activation_map(subject, images, CLASSES)


def test_grad_cam_of_a_flattening_head_by_hand() -> None:
    images = RNG.integers(0, 256, (3, 8, 1)).astype(np.uint8)
    subject = subject_of(build("convnet", num_classes=3, width=2, depth=1, kernel_size=3), images)
    features = np.asarray(stage_outputs(subject, jnp.asarray(images))["stage1"])
    kernel = subject.variables["params"]["head"]["layer"]["kernel"].reshape(4, 2, 3)
    weights = kernel.mean(axis=0)[:, CLASSES].T
    found = grad_cam(subject, images, CLASSES, "stage1")
    expected = np.maximum(np.einsum("npk,nk->np", features, weights), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_bad_requests() -> None:
    images = np.zeros((3, 8, 1), np.float32)
    subject = subject_of(build("convnet", num_classes=3, width=2, depth=1, kernel_size=3), images)
    with pytest.raises(ValueError, match="stage 'head' has no positions"):
        grad_cam(subject, images, CLASSES, "head")
    with pytest.raises(ValueError, match="no stage 'stage2'; there are: input, stage1, head"):
        grad_cam(subject, images, CLASSES, "stage2")
    with pytest.raises(ValueError, match="classes are whole numbers"):
        class_activation_map(subject, images, [0, 1, 3])
