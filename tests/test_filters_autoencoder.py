"""The sparse autoencoder: its loss against NumPy, that it is lowered, and the sparsity it reaches."""

import jax
import numpy as np
import pytest
from scipy.stats import entropy

from cnnjax.filters import autoencoder as module
from cnnjax.filters.autoencoder import (
    Autoencoder,
    autoencoder_loss,
    hidden_units,
    initial_autoencoder,
    sparse_autoencoder,
)


def sparse_vectors() -> np.ndarray:
    """600 vectors of 8 values, each a sum of few directions, of variance 1."""
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(600, 12)) * (rng.random((600, 12)) < 0.15)
    vectors = parts @ rng.normal(size=(12, 8))
    return (vectors / vectors.std()).astype(np.float32)


def test_loss_against_numpy() -> None:
    rng = np.random.default_rng(1)
    weights, bias, decoder, decoder_bias = (rng.normal(size=s) for s in [(8, 5), 5, (5, 8), 8])
    vectors = sparse_vectors()
    hidden = 1 / (1 + np.exp(-(vectors @ weights + bias)))
    error = ((hidden @ decoder + decoder_bias - vectors) ** 2).sum(axis=1).mean()
    decay = (weights**2).sum() + (decoder**2).sum()
    sparsity = sum(entropy([0.035, 0.965], [unit, 1 - unit]) for unit in hidden.mean(axis=0))
    expected = error / 2 + 0.003 / 2 * decay + 5 * sparsity
    parameters = Autoencoder(*(np.asarray(p, np.float32) for p in (weights, bias, decoder, decoder_bias)))
    np.testing.assert_allclose(autoencoder_loss(parameters, vectors), expected, rtol=1e-4)
    np.testing.assert_allclose(hidden_units(parameters, vectors), hidden, atol=1e-5)


def test_the_loss_falls_and_units_that_start_too_active_become_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = sparse_vectors()
    start = initial_autoencoder(jax.random.key(0), 8, 16)
    assert np.all(np.abs(hidden_units(start, np.zeros((1, 8), np.float32)) - 0.035) < 1e-5)
    active = start._replace(bias=np.full(16, -1.5, np.float32))
    monkeypatch.setattr(module, "initial_autoencoder", lambda *_: active)
    monkeypatch.setattr(module, "PRODUCTS_IN_A_DISPATCH", 600 * 6 * vectors.size * 16)
    shares: list[float] = []
    fitted = sparse_autoencoder(jax.random.key(0), vectors, 16, 1000, shares.append)
    assert shares == [600 / 1000, 1.0]
    assert [part.shape for part in fitted] == [(8, 16), (16,), (16, 8), (8,)]
    assert autoencoder_loss(fitted, vectors) < 0.6 * autoencoder_loss(start, vectors)
    before, after = (np.asarray(hidden_units(state, vectors)).mean(axis=0) for state in (active, fitted))
    assert before.min() > 0.15
    np.testing.assert_allclose(after, 0.035, atol=0.025)


def test_the_key_decides_and_the_dispatches_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = sparse_vectors()
    fit = [sparse_autoencoder(jax.random.key(k), vectors, 16, 3, lambda _: None).weights for k in (0, 0, 1)]
    np.testing.assert_array_equal(fit[0], fit[1])
    assert np.any(fit[0] != fit[2])
    monkeypatch.setattr(module, "PRODUCTS_IN_A_DISPATCH", 1)
    in_parts = sparse_autoencoder(jax.random.key(0), vectors, 16, 3, lambda _: None).weights
    np.testing.assert_array_equal(in_parts, fit[0])

    def stop(share: float) -> None:
        raise KeyboardInterrupt(share)

    with pytest.raises(KeyboardInterrupt, match=r"0\.33"):
        sparse_autoencoder(jax.random.key(0), vectors, 16, 3, stop)
