"""Residual networks for CIFAR: the paper's sizes, and plain networks of exactly the same parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.models.network import Network
from cnnjax.models.resnet import Layout
from cnnjax.models.resnet_cifar import CIFAR_PLAIN, CIFAR_RESNETS, resnet_cifar
from tests.training_step import losses_around_a_step

PARAMETERS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}


def parameters(model: Network) -> int:
    params = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32))["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("depth", PARAMETERS)
def test_published_sizes(depth: int) -> None:
    assert parameters(CIFAR_RESNETS[f"resnet{depth}"](10)) == PARAMETERS[depth]


def test_shortcuts_without_parameters_make_the_plain_network_equal() -> None:
    assert parameters(CIFAR_PLAIN["plain20"](10)) == PARAMETERS[20]
    projections = 16 * 32 + 32 * 64 + 2 * (32 + 64)
    assert parameters(CIFAR_RESNETS["resnet20"](10, shortcut="projected")) == PARAMETERS[20] + projections


@pytest.mark.parametrize("form", ["v1.5", "preactivation"])
def test_depth_counts_the_layers_with_weights(form: str) -> None:
    for name, make in {**CIFAR_RESNETS, **CIFAR_PLAIN}.items():
        if name.endswith(("20", "32")):
            variables = jax.eval_shape(make(10, form=form).init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))
            kernels = [leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim > 1]
            assert f"{len(kernels)}" == name[-2:]


def test_plain_networks_are_those_without_shortcuts() -> None:
    assert [*CIFAR_PLAIN] == [name.replace("resnet", "plain") for name in CIFAR_RESNETS]
    assert CIFAR_PLAIN["plain20"](10) == CIFAR_RESNETS["resnet20"](10, shortcut="none")


def test_zero_kernels_leave_the_identity_and_its_zero_channels() -> None:
    model = resnet_cifar(Layout("basic", (2, 1)), 3, width=2, norm="none", act="identity")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 2)), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    zeros = {"params": jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)}
    found = model.apply(zeros, x, after="stem", until="stage2")
    np.testing.assert_array_equal(found[..., :2], x[:, ::2, ::2])
    np.testing.assert_array_equal(found[..., 2:], 0)


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["padded", pytest.param("none", marks=pytest.mark.slow)])
def test_a_training_step_lowers_the_loss(shortcut: str) -> None:
    model = resnet_cifar(Layout("basic", (1, 1)), 3, width=2, shortcut=shortcut)
    before, after = losses_around_a_step(model, (6, 8, 8, 1), classes=3)
    assert after < before
