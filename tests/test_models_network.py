"""A network runs from any stage to any stage."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers.blocks import DenseBlock
from cnnjax.layers.dense import Dense
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.sequence import Named, Sequential
from cnnjax.models.network import Network, Stage, run_stages
from tests.variables import drawn_variables

X = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
NETWORK = Network(
    (
        Stage("stem", Dense(4)),
        Stage("stage1", DenseBlock(Dense(4), jnp.abs)),
        Stage("stage2", Sequential((Named("dropout", Dropout(0.5)), Named("layer", Dense(4))))),
        Stage("head", Dense(2)),
    )
)
VARIABLES = drawn_variables(NETWORK, X.shape)
KERNELS = {
    "stem": VARIABLES["params"]["stem"],
    "stage1": VARIABLES["params"]["stage1"]["dense"],
    "stage2": VARIABLES["params"]["stage2"]["layer"],
    "head": VARIABLES["params"]["head"],
}


def by_hand(x: np.ndarray, stages: tuple[str, ...]) -> np.ndarray:
    """The matrices of the stages in order, with the one nonlinearity behind `stage1`."""
    for stage in stages:
        x = x @ KERNELS[stage]["kernel"] + KERNELS[stage]["bias"]
        x = np.abs(x) if stage == "stage1" else x
    return x


def test_stages_keep_their_names_and_order() -> None:
    assert NETWORK.stage_names == ("stem", "stage1", "stage2", "head")


def test_paths_start_with_the_stage() -> None:
    paths = {tuple(part.key for part in path) for path, _ in jax.tree_util.tree_leaves_with_path(VARIABLES)}
    middles = {"stem": (), "stage1": ("dense",), "stage2": ("layer",), "head": ()}
    expected = {("params", s, *m, leaf) for s, m in middles.items() for leaf in ("kernel", "bias")}
    assert paths == expected


def test_whole_network_is_its_stages_in_order() -> None:
    np.testing.assert_allclose(NETWORK.apply(VARIABLES, X), by_hand(X, NETWORK.stage_names), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("first", "last"), list(combinations(range(5), 2)))
def test_any_stretch_is_its_stages(first: int, last: int) -> None:
    names = (None, *NETWORK.stage_names)
    found = run_stages(NETWORK, VARIABLES, X, after=names[first], until=names[last])
    expected = by_hand(X, NETWORK.stage_names[first:last])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stage", NETWORK.stage_names)
def test_until_and_after_compose_to_the_whole(stage: str) -> None:
    features = NETWORK.apply(VARIABLES, X, until=stage)
    np.testing.assert_array_equal(NETWORK.apply(VARIABLES, features, after=stage), NETWORK.apply(VARIABLES, X))


def test_variables_of_one_stretch_are_enough_for_it() -> None:
    own = {"params": {"stage1": VARIABLES["params"]["stage1"]}}
    found = NETWORK.apply(own, X, after="stem", until="stage1")
    np.testing.assert_allclose(found, by_hand(X, ("stage1",)), rtol=1e-4, atol=1e-5)


def test_training_reaches_the_layers_and_evaluation_does_not_drop() -> None:
    train = jax.jit(lambda key: NETWORK.apply(VARIABLES, X, train=True, until="stage2", rngs={"dropout": key}))
    trained, evaluated = train(jax.random.key(0)), by_hand(X, ("stem", "stage1", "stage2"))
    assert np.abs(trained - evaluated).max() > 0.1
    np.testing.assert_allclose(run_stages(NETWORK, VARIABLES, X, until="stage2"), evaluated, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("argument", ["after", "until"])
def test_unknown_stage_names_those_there_are(argument: str) -> None:
    with pytest.raises(ValueError, match="no stage 'stage3'; there are: stem, stage1, stage2, head"):
        NETWORK.apply(VARIABLES, X, **{argument: "stage3"})
