"""A copy of a network with other layers in it."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cnnjax.analysis.rewriting import rewritten
from cnnjax.models import build
from cnnjax.models.network import Network
from tests.variables import drawn_variables


def with_sigmoid(part: object) -> object:
    if part is nn.relu:
        return nn.sigmoid
    return "sigmoid" if part == "relu" else part


def with_abs(model: Network) -> Network:
    return rewritten(model, lambda part: jnp.abs if part is nn.relu else part)


def test_what_does_not_change_is_the_same_object() -> None:
    model = build("resnet18", num_classes=3, width=2)
    assert rewritten(model, lambda part: part) is model


def test_detectors_are_found_wherever_they_are() -> None:
    for name, fields in {
        "convnet": {"width": 2},
        "resnet20": {"width": 2},
        "googlenet": {"width": 8},
        "mlp": {},
        "lenet5": {"act": "relu", "form": "original"},
        "resnet18": {"width": 2, "form": "preactivation"},
        "densenet121": {},
    }.items():
        relu, other = (build(name, num_classes=3, **{**fields, "act": act}) for act in ("relu", "sigmoid"))
        # Pooling may come before both, so the networks differ in the detector alone, and its name where that is kept.
        changed = rewritten(relu, with_sigmoid)
        assert changed == other, name
        assert changed != relu, name


def test_the_copy_takes_the_same_variables() -> None:
    x = np.random.default_rng(0).normal(size=(2, 8, 1)).astype(np.float32)
    model = build("convnet", num_classes=3, width=2, depth=1, kernel_size=3, pool="average")
    variables = drawn_variables(model, x.shape)
    expected = build("convnet", num_classes=3, width=2, depth=1, kernel_size=3, pool="average", act="abs")
    found, right, before = jax.jit(lambda x: [m.apply(variables, x) for m in (with_abs(model), expected, model)])(x)
    np.testing.assert_array_equal(found, right)
    assert np.abs(found - before).max() > 0.01
