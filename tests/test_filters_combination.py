"""A bank and its matrix are one convolution: the network that runs is the one with 1x1 convolutions behind the bank."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.config import FilterRule
from cnnjax.filters.combination import add_mixing, bank_place, combine, draw_mixing, mixing_path
from cnnjax.filters.places import Place

PLACE = Place("stage1/conv/kernel", (6, 6, 2), (), (3, 3), 2, 4)


def correlate_by_loops(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """x [*spatial, C] with a kernel [*window, C, F], where the window fits."""
    window = kernel.shape[:-2]
    positions = [size - k + 1 for size, k in zip(x.shape, window, strict=False)]
    out = np.zeros((*positions, kernel.shape[-1]))
    for at in itertools.product(*map(range, positions)):
        patch = x[tuple(slice(start, start + k) for start, k in zip(at, window, strict=True))]
        out[at] = np.tensordot(patch, kernel, kernel.ndim - 1)
    return out


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_combined_kernel_is_the_bank_followed_by_a_1x1_convolution(
    window: list[int], channels: int, features: int, times: int
) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (*(size + 1 for size in window), channels)).astype(np.float64)
    bank = rng.integers(-3, 4, (*window, channels, times * features)).astype(np.float32)
    mixing = rng.integers(-3, 4, (times * features, features)).astype(np.float32)
    combined = combine({"a/kernel": jnp.asarray(bank), "a/mixing": jnp.asarray(mixing)})
    assert list(combined) == ["a/kernel"]
    assert combined["a/kernel"].shape == (*window, channels, features)
    two = correlate_by_loops(correlate_by_loops(x, bank), mixing.reshape(*[1] * len(window), *mixing.shape))
    np.testing.assert_array_equal(correlate_by_loops(x, np.asarray(combined["a/kernel"])), two)


def test_what_is_not_combined_stays() -> None:
    plain = {"a/kernel": jnp.ones((2, 3)), "a/bias": jnp.ones(3), "b/kernel": jnp.ones((3, 3))}
    assert combine(plain) is plain
    mixed = combine({**plain, "b/mixing": 2 * jnp.ones((3, 3))})
    assert mixed.keys() == plain.keys()
    assert mixed["a/kernel"] is plain["a/kernel"] and mixed["a/bias"] is plain["a/bias"]
    np.testing.assert_array_equal(mixed["b/kernel"], np.full((3, 3), 6))


@pytest.mark.parametrize(("combinations", "features"), [(0, 4), (1, 4), (3, 12)])
def test_bank_has_so_many_times_the_filters(combinations: int, features: int) -> None:
    bank = bank_place(PLACE, FilterRule(".*", "gaussian", "frozen", combinations))
    assert bank.shape == (3, 3, 2, features)
    assert (bank.path, bank.input_shape, bank.groups) == (PLACE.path, PLACE.input_shape, PLACE.groups)


def test_a_trained_matrix_for_each_kernel_that_is_combined_and_no_other() -> None:
    combined, plain = FilterRule("stage.*", "gaussian", "frozen", 2), FilterRule("head/.*", "init", "frozen")
    rules = {"stage1/conv/kernel": combined, "stage1/conv/bias": combined, "head/kernel": plain}
    places = dict.fromkeys(("stage1/conv/kernel", "head/kernel"), PLACE)
    found = add_mixing(rules, places)
    assert {path: found[path] for path in rules} == rules
    assert found.keys() - rules.keys() == {"stage1/conv/mixing"}
    assert found[mixing_path("stage1/conv/kernel")].state == "trained"


def test_combinations_have_the_variance_of_the_filters() -> None:
    bank = bank_place(PLACE, FilterRule(".*", "gaussian", "frozen", 500))
    mixing = draw_mixing(jax.random.key(0), bank, PLACE.features)
    assert mixing.shape == (2000, 4)
    filters = np.random.default_rng(0).normal(0, 3, (18, 2000))
    assert (filters @ np.asarray(mixing)).std() == pytest.approx(3, rel=0.2)
    assert np.asarray(mixing).std() == pytest.approx(2000**-0.5, rel=0.05)
