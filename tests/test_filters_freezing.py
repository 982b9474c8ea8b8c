"""Frozen means frozen, in the statistics of batch norm and in dropout too."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.config import FilterRule
from cnnjax.filters.freezing import frozen_modules, frozen_prefix, frozen_statistics, keep_frozen
from cnnjax.filters.plan import cover, flatten
from cnnjax.layers.sequence import Sequential
from cnnjax.models.convnet import convnet
from cnnjax.models.network import Network, Stage
from tests.variables import drawn_variables

MODEL = convnet(3, width=2, depth=2, kernel_size=3, norm="batch", dropout=0.5)
X = np.random.default_rng(1).normal(2, 3, (4, 8, 1)).astype(np.float32)
VARIABLES = drawn_variables(MODEL, X.shape)
PATHS = list(flatten(VARIABLES["params"]))
STATISTICS = [f"stage{i}/norm/{name}" for i in (1, 2) for name in ("mean", "var")]


def rules_by(*patterns: str) -> dict[str, FilterRule]:
    """A plan that freezes what any of the patterns matches and trains the rest."""
    frozen = "|".join(patterns) or "(?!)"
    plan = [FilterRule(f"(?!({frozen})$).*")] + ([FilterRule(frozen, state="frozen")] if patterns else [])
    return cover(PATHS, plan)


def frozen_by(*patterns: str) -> frozenset[str]:
    """The modules that such a plan freezes."""
    return frozen_modules(rules_by(*patterns))


@pytest.mark.parametrize(
    ("patterns", "modules"),
    [
        ([], set()),
        (["stage1/.*"], {"stage1", "stage1/conv", "stage1/norm"}),
        (["stage1/conv/.*"], {"stage1/conv"}),
        (["stage1/conv/kernel"], {"stage1/conv"}),
        (["stage1/norm/scale"], set()),
        (["stage2/norm/.*", "head/.*"], {"stage2/norm", "head", "head/layer"}),
    ],
)
def test_module_is_frozen_when_all_its_parameters_are(patterns: list[str], modules: set[str]) -> None:
    assert frozen_by(*patterns) == modules


def test_module_is_not_frozen_by_another_whose_name_it_starts_with() -> None:
    rules = {"stage1/kernel": FilterRule(".*", state="frozen"), "stage10/kernel": FilterRule(".*")}
    modules = frozen_modules(rules)
    assert modules == {"stage1"}
    assert frozen_statistics(["stage1/mean", "stage10/mean"], modules) == {"stage1/mean"}


@pytest.mark.parametrize(
    ("patterns", "statistics"),
    [
        ([], set()),
        (["stage1/.*"], {"stage1/norm/mean", "stage1/norm/var"}),
        (["stage1/norm/.*"], {"stage1/norm/mean", "stage1/norm/var"}),
        (["stage1/conv/.*"], set()),
        (["stage1/.*", "stage2/.*"], set(STATISTICS)),
    ],
)
def test_statistics_of_frozen_modules(patterns: list[str], statistics: set[str]) -> None:
    assert set(flatten(VARIABLES["batch_stats"])) == set(STATISTICS)
    assert frozen_statistics(STATISTICS, frozen_by(*patterns)) == statistics


@pytest.mark.parametrize(
    ("patterns", "prefix"),
    [
        ([], ()),
        (["stage1/.*"], ("stage1",)),
        (["stage1/.*", "stage2/.*"], ("stage1", "stage2")),
        (["stage2/.*"], ()),
        (["stage1/conv/.*"], ()),
        (["stage1/.*", "stage2/conv/.*"], ("stage1",)),
        (["stage1/.*", "head/.*"], ("stage1",)),
    ],
)
def test_prefix_ends_before_the_first_stage_that_is_trained(patterns: list[str], prefix: tuple[str, ...]) -> None:
    rules = rules_by(*patterns)
    assert frozen_prefix(MODEL, rules, frozen_modules(rules)) == prefix


@pytest.mark.parametrize(
    ("frozen", "prefix"),
    [
        ([], ()),
        (["conv"], ("first", "conv", "pool")),
        (["conv", "dense"], ("first", "conv", "pool", "dense", "last")),
        (["dense"], ()),
    ],
)
def test_stages_without_parameters_belong_to_the_frozen_ones_beside_them(
    frozen: list[str], prefix: tuple[str, ...]
) -> None:
    names = ("first", "conv", "pool", "dense", "last", "head")
    model = Network(tuple(Stage(name, Sequential(())) for name in names))
    rules = {
        f"{stage}/kernel": FilterRule(".*", state="frozen" if stage in frozen else "trained")
        for stage in ("conv", "dense", "head")
    }
    assert frozen_prefix(model, rules, frozen_modules(rules)) == prefix


def trained_step(modules: frozenset[str], until: str) -> tuple[np.ndarray, dict[str, Any]]:
    """The output of a stage in training and the statistics behind it, with these modules frozen."""

    @jax.jit
    def step(key: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        with nn.intercept_methods(keep_frozen(modules)):
            options = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": key}}
            return MODEL.apply(VARIABLES, X, until=until, **options)

    output, changed = step(jax.random.key(0))
    return np.asarray(output), flatten(changed["batch_stats"])


@pytest.mark.parametrize("pattern", ["stage1/.*", "stage1/norm/.*"])
def test_frozen_norm_uses_and_keeps_its_stored_statistics(pattern: str) -> None:
    output, statistics = trained_step(frozen_by(pattern), "stage1")
    evaluated = MODEL.apply(VARIABLES, X, until="stage1")
    np.testing.assert_allclose(output, evaluated, rtol=1e-5, atol=1e-5)
    for path in STATISTICS[:2]:
        np.testing.assert_array_equal(statistics[path], flatten(VARIABLES["batch_stats"])[path])


def test_norm_that_is_trained_uses_and_moves_its_statistics() -> None:
    frozen = frozen_by("stage1/.*")
    _, statistics = trained_step(frozen, "stage2")
    moved = {path for path in STATISTICS if (statistics[path] != flatten(VARIABLES["batch_stats"])[path]).any()}
    assert moved == {"stage2/norm/mean", "stage2/norm/var"}
    output, _ = trained_step(frozenset(), "stage1")
    assert np.abs(output - MODEL.apply(VARIABLES, X, until="stage1")).max() > 0.1


def test_frozen_dropout_drops_nothing() -> None:
    frozen = frozen_by("stage1/.*", "stage2/.*", "head/.*(?<!bias)")
    assert "head" not in frozen
    dropped, _ = trained_step(frozen, "head")
    kept, _ = trained_step(frozen | {"head"}, "head")
    evaluated = MODEL.apply(VARIABLES, X)
    np.testing.assert_allclose(kept, evaluated, rtol=1e-4, atol=1e-5)
    assert np.abs(dropped - evaluated).max() > 0.01
