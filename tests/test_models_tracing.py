"""A network traced once: its shapes against Flax's own, and nothing in its programs that evaluation does not run."""

import collections
from typing import Any

import jax
import pytest
from flax import linen as nn

from cnnjax.layers.convolution import Conv
from cnnjax.layers.initialisers import INITIALISERS
from cnnjax.models.description import describe_stages
from cnnjax.models.network import Network
from cnnjax.models.registry import build
from cnnjax.models.tracing import LayerInput, abstract_variables, trace_network
from cnnjax.ops.coding import CONTRAST_EPSILON

SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "convnet": ({"norm": "batch", "width": 2}, (8, 8, 3)),
    "coates": ({"width": 5, "kernel_size": 2}, (6, 6, 1)),
    "densenet_40_12": ({"width": 1}, (8, 8, 3)),
    "googlenet": ({"width": 8, "stem": "small", "auxiliary": True}, (16, 16, 3)),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in ("densenet_40_12", "googlenet") else n for n in SMALL]
)
def test_variables_are_those_that_flax_would_make(name: str) -> None:
    fields, shape = SMALL[name]
    model = build(name, num_classes=3, **fields)
    whole = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), "float32"))
    stages = abstract_variables(model, shape)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), whole) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), stages
    )


def test_each_layer_is_called_once_for_all_that_is_said_of_a_network() -> None:
    model = build("resnet18", num_classes=3, width=3, stem="small")
    calls: collections.Counter[tuple[str, ...]] = collections.Counter()

    def note(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, Conv | Network):
            calls[context.module.path] += 1
        return call(*arguments, **keywords)

    with nn.intercept_methods(note):
        describe_stages(model, (8, 8, 3))
        abstract_variables(model, (8, 8, 3))
    of_network = calls.pop(())
    assert of_network == len(model.stage_names)  # it is run from stage to stage
    assert ("stage4", "block2", "branch", "conv2", "conv") in calls and set(calls.values()) == {1}


def test_programs_count_no_initialiser_and_no_auxiliary_head() -> None:
    shape = (6, 5, 2)
    rows = [describe_stages(build("convnet", num_classes=3, depth=1, init=name), shape) for name in INITIALISERS]
    assert rows == [rows[0]] * len(rows)
    fields = {"num_classes": 3, "width": 8, "stem": "small"}
    without, auxiliary = (describe_stages(build("googlenet", auxiliary=a, **fields), (8, 8, 3)) for a in (False, True))
    assert [row.multiply_adds for row in auxiliary] == [row.multiply_adds for row in without]
    assert auxiliary[-1].parameters > without[-1].parameters


def test_what_layers_are_given() -> None:
    coates = trace_network(build("coates", num_classes=3, width=5, kernel_size=2), (6, 6, 1)).layers
    assert coates["whiten"].shape == (6, 6, 1) and coates["whiten"].contrast == CONTRAST_EPSILON
    assert list(coates)[-3:] == ["code", "pool", "head"]
    assert coates["code"] == LayerInput((5, 5, 4), None)
