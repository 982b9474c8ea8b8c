"""Residual networks for ImageNet: published counts, their options, and plain networks of the same layers."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import RequestError
from cnnjax.models.cost import multiply_adds
from cnnjax.models.description import describe
from cnnjax.models.network import Network, run_stages
from cnnjax.models.resnet import PLAIN, RESNETS, Layout, resnet
from tests.training_step import losses_around_a_step
from tests.variables import drawn_variables

TINY = Layout("bottleneck", (1, 1))


def measured(model: Network, input_shape: tuple[int, ...]) -> tuple[int, float]:
    """The number of parameters, and 10^9 multiply-adds to three decimals."""
    x = jax.ShapeDtypeStruct((1, *input_shape), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return parameters, round(multiply_adds(model.apply, variables, x) / 1e9, 3)


@pytest.mark.parametrize(
    ("name", "parameters", "billions"),
    [
        ("resnet18", 11_689_512, 1.814),
        ("resnet34", 21_797_672, 3.664),
        pytest.param("resnet50", 25_557_032, 4.089, marks=pytest.mark.slow),
    ],
)
def test_published_sizes(name: str, parameters: int, billions: float) -> None:
    assert measured(RESNETS[name](1000), (224, 224, 3)) == (parameters, billions)


def test_small_stem() -> None:
    assert measured(RESNETS["resnet18"](10, stem="small"), (32, 32, 3)) == (11_173_962, 0.555)


def test_what_the_forms_differ_in() -> None:
    shape = (64, 64, 3)
    published, _ = measured(RESNETS["resnet18"](1000), shape)
    projections = [(64, 128), (128, 256), (256, 512)]
    kernels, norms = sum(c * f for c, f in projections), sum(2 * f for _, f in projections)
    assert measured(PLAIN["plain18"](1000), shape)[0] == published - kernels - norms
    assert measured(RESNETS["resnet18"](1000, shortcut="padded"), shape)[0] == published - kernels - norms
    # Each block's norms stand in front of its convolutions: none in the first block's, and the last one in the head.
    blocks = [64, 128, 256, 512]
    behind = sum(2 * 2 * 2 * f for f in blocks) + norms
    in_front = 2 * 64 + 2 * 2 * 64 + sum(2 * c + 2 * 3 * f for c, f in projections) + 2 * 512
    assert measured(RESNETS["resnet18"](1000, form="preactivation"), shape)[0] == published - behind + in_front


def test_table_of_resnet18() -> None:
    table = describe(RESNETS["resnet18"](1000), (224, 224, 3))
    assert table.stage.tolist() == ["stem", "stage1", "stage2", "stage3", "stage4", "head", "total"]
    grids = [(56, 56, 64), (56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512), (1000,), (1000,)]
    assert table.output.tolist() == grids
    # 7, then pooled: 11 at stride 4; each 3x3 adds 2 strides, and one that strides its own grid before it
    assert table.receptive_field.tolist()[:5] == [(size, size) for size in (11, 43, 99, 211, 435)]
    assert table.stride.tolist()[:5] == [(s, s) for s in (4, 4, 8, 16, 32)]


def test_paths_are_regular() -> None:
    model = resnet(TINY, 3, width=2)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 16, 16, 1)))
    found = {jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in jax.tree.leaves_with_path(variables)}
    layers = ["stem", *(f"stage{s}/block1/branch/conv{c}" for s in (1, 2) for c in (1, 2, 3))]
    layers += [f"stage{s}/block1/shortcut" for s in (1, 2)]
    expected = {f"params/{layer}/{leaf}" for layer in layers for leaf in ("conv/kernel", "norm/scale", "norm/bias")}
    expected |= {f"batch_stats/{layer}/norm/{leaf}" for layer in layers for leaf in ("mean", "var")}
    assert found == expected | {"params/head/dense/kernel", "params/head/dense/bias"}


def test_head_of_a_preactivated_network_begins_with_the_last_activation() -> None:
    model = resnet(Layout("basic", (1,)), 3, width=8, stem="small", form="preactivation", norm="none")
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype(np.float32)
    variables = drawn_variables(model, x.shape)
    features, logits = jax.jit(lambda v: (run_stages(model, v, x, until="stage1"), model.apply(v, x)))(variables)
    assert features.min() < 0
    dense = variables["params"]["head"]["dense"]
    expected = np.maximum(features, 0).mean((1, 2)) @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["v1.5", "preactivation"])
def test_a_training_step_lowers_the_loss(form: str) -> None:
    model = resnet(TINY, 3, width=2, form=form)
    before, after = losses_around_a_step(model, (6, 16, 16, 1), classes=3)
    assert after < before


@pytest.mark.parametrize("field", [{"connectivity": "local"}, {"norm": "group"}, {"padding": "circular"}])
def test_parts_reach_the_blocks(field: dict[str, str]) -> None:
    model = resnet(TINY, 3, width=2, **field)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.ones((2, 16, 16, 1)))
    assert logits.shape == (2, 3)
    kernel = variables["params"]["stage2"]["block1"]["branch"]["conv2"]["conv"]["kernel"]
    assert kernel.shape == ((2, 2) if "connectivity" in field else ()) + (3, 3, 4, 4)
    assert ("batch_stats" in variables) == ("norm" not in field)


@pytest.mark.parametrize("spatial", [(16,), (8, 8, 8)])
def test_one_and_three_dimensions(spatial: tuple[int, ...]) -> None:
    x = jnp.ones((2, *spatial, 1))
    logits, _ = jax.eval_shape(resnet(TINY, 3, width=2).init_with_output, jax.random.key(0), x)
    assert logits.shape == (2, 3)


def test_plain_networks_are_those_without_shortcuts() -> None:
    assert set(PLAIN) == {name.replace("resnet", "plain") for name in RESNETS}
    assert PLAIN["plain34"](10, width=8) == RESNETS["resnet34"](10, width=8, shortcut="none")
    assert "layout" not in inspect.signature(RESNETS["resnet18"]).parameters


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"stem": "smal"}, "unknown stem 'smal'; did you mean 'small'?"),
        ({"form": "v1"}, "unknown form 'v1'; did you mean 'v1.5'?"),
        ({"shortcut": "identity"}, "unknown shortcut 'identity'; there are: none, padded, projected"),
        (
            {"stem": "small", "pool": "average"},
            "stem 'small' has no pooling that could be 'average'; leave pool out, or take stem 'imagenet'",
        ),
        (
            {"padding": "valid"},
            "padding 'valid' shrinks a residual block's branch; the others keep the grid",
        ),
    ],
)
def test_wrong_request(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        RESNETS["resnet18"](10, **fields)
    assert str(caught.value) == says
