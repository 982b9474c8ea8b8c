"""Starting values under a plan: what is drawn anew, what stays, and from which key."""

import functools

import jax
import numpy as np
import pytest

from cnnjax.config import FilterRule, RequestError
from cnnjax.filters import random
from cnnjax.filters.plan import cover
from cnnjax.filters.sources import SOURCES, starting_values

KERNELS = {"stage1/conv/kernel": (3, 3, 1, 4), "stage2/conv/kernel": (3, 3, 1, 4), "head/kernel": (16, 3)}
VECTORS = {"stage1/conv/bias": (4,), "stage1/norm/scale": (4,), "stage2/conv/bias": (4,), "head/bias": (3,)}
PARAMS = {path: np.full(shape, 7.0, np.float32) for path, shape in {**KERNELS, **VECTORS}.items()}


@functools.partial(jax.jit, static_argnums=0)
def start(source: str, key: jax.Array) -> dict[str, jax.Array]:
    rules = cover(PARAMS, [FilterRule("stage.*", source, "frozen"), FilterRule("head/.*")])
    return starting_values(PARAMS, rules, key)


def started(source: str, seed: int = 0) -> dict[str, np.ndarray]:
    return {path: np.asarray(value) for path, value in start(source, jax.random.key(seed)).items()}


def test_only_kernels_with_another_source_change() -> None:
    values = started("signs")
    changed = {path for path, value in values.items() if (value != PARAMS[path]).any()}
    assert changed == {"stage1/conv/kernel", "stage2/conv/kernel"}
    assert {path: value.shape for path, value in values.items()} == {**KERNELS, **VECTORS}


@pytest.mark.parametrize("name", ["gaussian", "uniform", "orthogonal", "signs"])
def test_source_by_name(name: str) -> None:
    assert SOURCES[name] is getattr(random, name)


def test_init_keeps_the_networks_own_values() -> None:
    values = started("init")
    assert {path: value.tolist() for path, value in values.items()} == {p: v.tolist() for p, v in PARAMS.items()}


def test_each_path_draws_for_itself_and_from_the_key() -> None:
    first, again, other = started("signs"), started("signs"), started("signs", seed=1)
    one, two = first["stage1/conv/kernel"], first["stage2/conv/kernel"]
    assert (one != two).any()
    assert (one != other["stage1/conv/kernel"]).any()
    np.testing.assert_array_equal(one, again["stage1/conv/kernel"])


def test_a_kernel_does_not_depend_on_what_else_is_drawn() -> None:
    alone = {"stage2/conv/kernel": PARAMS["stage2/conv/kernel"]}
    rules = {"stage2/conv/kernel": FilterRule(".*", "signs")}
    found = jax.jit(lambda key: starting_values(alone, rules, key))(jax.random.key(0))["stage2/conv/kernel"]
    np.testing.assert_array_equal(found, started("signs")["stage2/conv/kernel"])


def test_unknown_source_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="'gausian'; did you mean 'gaussian'"):
        started("gausian")
