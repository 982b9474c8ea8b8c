"""Filters as trained linear combinations of others (Gavrikov and Keuper 2023, "The power of linear combinations").

A kernel [*window, C, F] under a rule with `combinations` e becomes a bank [*window, C, e F] and a matrix `mixing`
[e F, F]. Between a convolution with the bank and a 1x1 convolution with the matrix stands nothing, so the two are one
convolution with their product, and that is how they run.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from cnnjax.config import FilterRule
from cnnjax.filters.places import Place
from cnnjax.filters.plan import Flat

_MIXING = "mixing"


def bank_place(place: Place, rule: FilterRule) -> Place:
    """The place of the bank that a rule asks for: the layer's own, with as many times more filters."""
    return dataclasses.replace(place, features=max(1, rule.combinations) * place.features)


def add_mixing(rules: Mapping[str, FilterRule], places: Mapping[str, Place]) -> dict[str, FilterRule]:
    """The rules with one for each matrix of combinations."""
    more = {
        mixing_path(path): FilterRule(mixing_path(path))
        for path in places
        if path in rules and rules[path].combinations
    }
    return {**rules, **more}


def mixing_path(path: str) -> str:
    """Where the matrix of the kernel at a path is."""
    return f"{path.rpartition('/')[0]}/{_MIXING}"


def draw_mixing(key: jax.Array, bank: Place, features: int) -> jax.Array:
    """A starting matrix [bank's features, features]: normal, such that the combinations have the filters' variance."""
    return jax.random.normal(key, (bank.features, features)) / math.sqrt(bank.features)


def combine(params: Flat) -> Flat:
    """The network's own parameters, each bank multiplied by its matrix."""
    mixed = {path for path in params if path.rpartition("/")[2] == _MIXING}
    if not mixed:
        return params
    combined = {path: array for path, array in params.items() if path not in mixed}
    for path in mixed:
        kernel = f"{path.rpartition('/')[0]}/kernel"
        combined[kernel] = jnp.matmul(params[kernel], params[path], precision=jax.lax.Precision.HIGHEST)
    return combined
