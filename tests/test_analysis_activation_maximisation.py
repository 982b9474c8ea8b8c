"""What a linear unit likes best is known: a corner of the legal cube, or with a penalty a point inside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.analysis.activation_maximisation import activation_maximisation
from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.models.convnet import convnet
from cnnjax.models.logistic import logistic
from cnnjax.models.network import Network
from tests.variables import drawn_variables

KEY = jax.random.key(0)


def subject_of(model: Network, shape: tuple[int, ...]) -> Subject:
    return Subject(model, drawn_variables(model, (1, *shape)), (120.0, 100.0), (60.0, 50.0))


def weights_of(subject: Subject, shape: tuple[int, ...]) -> np.ndarray:
    """[classes, *spatial, C] of a linear network."""
    (dense,) = subject.variables["params"].values()
    return np.moveaxis(dense["kernel"].reshape(*shape, -1), -1, 0)


@pytest.mark.parametrize("shape", [(9, 2), (4, 3, 2)])
@pytest.mark.parametrize("start", ["noise", "grey"])
def test_linear_unit_reaches_its_corner(shape: tuple[int, ...], start: str) -> None:
    subject = subject_of(logistic(3), shape)
    (stage,) = subject.model.stage_names
    found = activation_maximisation(subject, shape, [(stage, 2), (stage, 0)], KEY, start=start, steps=4000, penalty=0.0)
    assert found.shape == (2, *shape)
    np.testing.assert_array_equal(found, np.where(weights_of(subject, shape)[[2, 0]] > 0, 255, 0))


def test_penalty_leaves_a_linear_unit_inside() -> None:
    shape, penalty = (4, 3, 2), 0.5
    subject = subject_of(logistic(3), shape)
    (stage,) = subject.model.stage_names
    found = activation_maximisation(subject, shape, [(stage, 1)], KEY, steps=500, penalty=penalty)[0]
    best = weights_of(subject, shape)[1] / (2 * penalty)
    np.testing.assert_allclose((found - np.array(subject.mean)) / subject.std, best, atol=0.02)


@pytest.mark.slow
def test_units_of_all_stages_grow_together() -> None:
    shape = (8, 8, 2)
    subject = subject_of(convnet(3, width=3, depth=1, kernel_size=3), shape)
    settings = {"steps": 20, "blur": 0.4, "jitter": 1}
    units = [("head", 2), ("stage1", 0), ("head", 0), ("stage1", 1), ("head", 1), ("stage1", 2)]
    found = activation_maximisation(subject, shape, units, KEY, start="noise", **settings)
    assert found.min() >= 0
    assert found.max() <= 255
    grey = np.broadcast_to(np.float32(subject.mean), shape)
    outputs = stage_outputs(subject, jnp.asarray([*found, grey]))
    means = {stage: np.asarray(outputs[stage]).reshape(7, -1, 3).mean(axis=1) for stage in ("stage1", "head")}
    assert all(means[stage][place, unit] > means[stage][6, unit] + 0.1 for place, (stage, unit) in enumerate(units))


def test_blur_smooths_and_jitter_is_drawn() -> None:
    shape = (12, 2)
    subject = subject_of(logistic(3), shape)
    (stage,) = subject.model.stage_names

    def image(seed: int = 0, **settings: float) -> np.ndarray:
        key = jax.random.key(seed)
        return activation_maximisation(subject, shape, [(stage, 0)], key, start="grey", steps=30, **settings)[0]

    plain, blurred, jittered = image(), image(blur=1.0), image(jitter=2)
    roughness = [np.abs(np.diff(picture, axis=0)).sum() for picture in (plain, blurred)]
    assert roughness[1] < roughness[0] / 2
    np.testing.assert_array_equal(image(seed=1), plain)
    np.testing.assert_array_equal(image(jitter=2), jittered)
    assert np.abs(image(seed=1, jitter=2) - jittered).max() > 1


def test_unit_without_gradient_stays() -> None:
    shape = (8, 2)
    subject = subject_of(convnet(3, width=2, depth=1, kernel_size=3), shape)
    subject.variables["params"]["stage1"]["conv"]["bias"] -= np.float32(1e4)
    found = activation_maximisation(subject, shape, [("stage1", 0)], KEY, start="grey", penalty=0.0, steps=3)
    np.testing.assert_array_equal(found[0], np.broadcast_to(subject.mean, shape))


def test_bad_requests() -> None:
    shape = (8, 2)
    subject = subject_of(logistic(3), shape)
    (stage,) = subject.model.stage_names
    with pytest.raises(ValueError, match="no start 'black'; there are: noise, grey"):
        activation_maximisation(subject, shape, [(stage, 0)], KEY, start="black")
    with pytest.raises(ValueError, match="no unit is asked for"):
        activation_maximisation(subject, shape, [], KEY)
    with pytest.raises(ValueError, match="no stage 'stage1'"):
        activation_maximisation(subject, shape, [("stage1", 0)], KEY)
    with pytest.raises(ValueError, match="units of"):
        activation_maximisation(subject, shape, [(stage, 3)], KEY)
    for settings in ({"steps": 0}, {"rate": -1.0}, {"penalty": -1.0}, {"blur": -1.0}, {"jitter": -1}):
        with pytest.raises(ValueError, match="steps must be at least 1"):
            activation_maximisation(subject, shape, [(stage, 0)], KEY, **settings)
