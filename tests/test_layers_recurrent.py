"""The gated recurrent unit against its equations, one position after another in NumPy."""

from typing import Any

import jax
import numpy as np
import pytest

from cnnjax.layers.recurrent import GRU, BidirectionalGRU
from tests.variables import drawn_variables

Params = dict[str, Any]


def logistic(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def states_by_hand(params: Params, x: np.ndarray, *, reverse: bool) -> np.ndarray:
    """[W, C] to [W, features], in float64; the gates are r, z and n, as in PyTorch's documentation."""
    w, u = params["input"]["kernel"].astype(float), params["state"]["kernel"].astype(float)
    b, c = params["input"]["bias"].astype(float), params["state"]["bias"].astype(float)
    size = len(u)
    h, states = np.zeros(size), np.zeros((len(x), size))
    for i in reversed(range(len(x))) if reverse else range(len(x)):
        own, before = x[i] @ w + b, h @ u + c
        r, z = logistic(own[:size] + before[:size]), logistic((own + before)[size : 2 * size])
        n = np.tanh(own[2 * size :] + r * before[2 * size :])
        h = (1 - z) * n + z * h
        states[i] = h
    return states


@pytest.mark.parametrize("reverse", [False, True])
def test_states_and_their_gradient(reverse: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    layer = GRU(5, reverse=reverse)
    params = drawn_variables(layer, x.shape)["params"]
    assert {name: part["kernel"].shape for name, part in params.items()} == {"input": (3, 15), "state": (5, 15)}
    weights = rng.normal(size=(2, 4, 5)).astype(np.float32)

    @jax.jit
    def run(params: Params) -> tuple[jax.Array, Params]:
        states, pull = jax.vjp(lambda p: layer.apply({"params": p}, x), params)
        return states, pull(weights)[0]

    states, gradient = run(params)
    by_hand = np.stack([states_by_hand(params, example, reverse=reverse) for example in x])
    np.testing.assert_allclose(states, by_hand, rtol=1e-5, atol=1e-5)

    direction = jax.tree.map(lambda p: rng.normal(size=p.shape), params)

    def moved(t: float) -> float:
        there = jax.tree.map(lambda p, d: p + t * d, params, direction)
        return sum((states_by_hand(there, e, reverse=reverse) * w).sum() for e, w in zip(x, weights, strict=True))

    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: float((g * d).sum()), gradient, direction)))
    np.testing.assert_allclose(slope, (moved(1e-5) - moved(-1e-5)) / 2e-5, rtol=1e-4)


def test_both_directions_stand_side_by_side() -> None:
    x = np.random.default_rng(0).normal(size=(1, 6, 1)).astype(np.float32)
    layer = BidirectionalGRU(2)
    params = drawn_variables(layer, x.shape)["params"]
    found = np.asarray(layer.apply({"params": params}, x))
    np.testing.assert_allclose(found[0, :, :2], states_by_hand(params["forward"], x[0], reverse=False), atol=1e-5)
    np.testing.assert_allclose(found[0, :, 2:], states_by_hand(params["backward"], x[0], reverse=True), atol=1e-5)


def test_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a batch of sequences \[N, W, C\]; given \(1, 4, 4, 1\)"):
        GRU(2).init(jax.random.key(0), np.zeros((1, 4, 4, 1), np.float32))
