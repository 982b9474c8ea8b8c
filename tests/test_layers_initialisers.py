"""The scale of each initialiser, against the law that it is named for."""

from typing import Any

import jax
import numpy as np
import pytest
import scipy.stats

from cnnjax.config import RequestError
from cnnjax.layers.connectivity import DenseConv, LocalConv
from cnnjax.layers.convolution import Conv, DepthwiseSeparableConv
from cnnjax.layers.dense import Dense
from cnnjax.layers.initialisers import INITIALISERS, starting_fields, uniform_by_inputs
from cnnjax.layers.lenet import LENET5_TABLE, SparseConv
from cnnjax.layers.parts import Parts
from cnnjax.layers.recurrent import GRU

SHAPE = (3, 3, 16, 48)
FAN_IN, FAN_OUT = 3 * 3 * 16, 3 * 3 * 48


@pytest.mark.parametrize(
    ("name", "variance"),
    [("glorot", 2 / (FAN_IN + FAN_OUT)), ("he", 2 / FAN_IN), ("lecun", 1 / FAN_IN), ("torch", 1 / (3 * FAN_IN))],
)
def test_variance(name: str, variance: float) -> None:
    kernel = np.asarray(INITIALISERS[name](jax.random.key(0), SHAPE))
    standard_error = np.sqrt(2 / kernel.size)  # of a normal variance, as a share; uniform and truncated have less
    np.testing.assert_allclose(kernel.var(), variance, rtol=5 * standard_error)
    np.testing.assert_allclose(kernel.mean(), 0, atol=5 * np.sqrt(variance / kernel.size))


@pytest.mark.parametrize("shape", [(2500, 4), (3, 3, 20, 60), pytest.param((3, 3, 3, 10, 40), marks=pytest.mark.slow)])
def test_uniform_bounds_in_every_number_of_dimensions(shape: tuple[int, ...]) -> None:
    """Glorot: sqrt(6 / (fan_in + fan_out)). PyTorch: 1 / sqrt(fan_in), for dense kernels and convolutions alike."""
    fan_in, fan_out = np.prod(shape[:-1]), np.prod(shape[:-2]) * shape[-1]
    for name, bound in {"glorot": np.sqrt(6 / (fan_in + fan_out)), "torch": 1 / np.sqrt(fan_in)}.items():
        kernel = np.asarray(INITIALISERS[name](jax.random.key(1), shape))
        np.testing.assert_array_less(np.abs(kernel), bound * (1 + 1e-6))
        least = bound * (1 - 20 / kernel.size)  # a share of 1 - 2e-9 of all draws reaches above
        assert kernel.max() > least
        assert kernel.min() < -least
        share = np.histogram(kernel, 4, (-bound, bound))[0] / kernel.size
        np.testing.assert_allclose(share, 0.25, atol=5 * np.sqrt(3 / 16 / kernel.size))


@pytest.mark.parametrize("name", ["he", "lecun"])
def test_normal_kernels_are_cut_at_two_standard_deviations(name: str) -> None:
    kernel = np.asarray(INITIALISERS[name](jax.random.key(0), SHAPE))
    cut = scipy.stats.truncnorm(-2, 2)
    edge = kernel.std() * 2 / cut.std()
    np.testing.assert_allclose(np.abs(kernel).max(), edge, rtol=0.02)
    inner = np.mean(np.abs(kernel) < edge / 4)
    np.testing.assert_allclose(inner, cut.cdf(0.5) - cut.cdf(-0.5), atol=0.02)


@pytest.mark.parametrize("features", [48, 200])
def test_orthogonal_filters_are_orthonormal(features: int) -> None:
    """The columns of the matrix [fan_in, features], or its rows where there are fewer."""
    kernel = np.asarray(INITIALISERS["orthogonal"](jax.random.key(0), (*SHAPE[:-1], features)))
    matrix = kernel.reshape(FAN_IN, features)
    gram = matrix.T @ matrix if features <= FAN_IN else matrix @ matrix.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(INITIALISERS) - {"torch"}))
def test_biases_start_at_zero(name: str) -> None:
    init = starting_fields(name)
    conv = Conv(2, 3, **init).init(jax.random.key(0), np.ones((1, 4, 4, 1), np.float32))["params"]
    dense = Dense(2, **init).init(jax.random.key(0), np.ones((1, 4), np.float32))["params"]
    for params in (conv, dense):
        np.testing.assert_array_equal(params["bias"], 0)
        assert np.abs(params["kernel"]).min() > 0


def test_every_initialiser_has_a_test() -> None:
    assert set(INITIALISERS) == {"glorot", "he", "lecun", "orthogonal", "torch"}


def check_uniform(values: np.ndarray, fan_in: int) -> None:
    """Uniform between -1 / sqrt(fan_in) and 1 / sqrt(fan_in), of variance 1 / (3 fan_in)."""
    bound = 1 / np.sqrt(fan_in)
    assert np.abs(values).max() <= bound * (1 + 1e-6)
    assert np.abs(values).max() > bound * (1 - 20 / values.size)
    np.testing.assert_allclose(values.var(), 1 / (3 * fan_in), rtol=5 / np.sqrt(values.size))
    np.testing.assert_allclose(values.mean(), 0, atol=5 * bound / np.sqrt(3 * values.size))


@pytest.mark.parametrize(
    ("layer", "shape", "fan_in"),
    [
        (Conv(2000, 3, **starting_fields("torch")), (4, 4, 5), 3 * 3 * 5),
        (Conv(2000, 3, groups=2, **starting_fields("torch")), (4, 6), 3 * 3),
        (Dense(2000, **starting_fields("torch")), (3, 4), 12),
        (LocalConv(400, 3, **starting_fields("torch")), (5, 3), 3 * 3),
        (DenseConv(400, 3, **starting_fields("torch")), (5, 3), 5 * 3),
    ],
)
def test_torch_draws_kernels_and_biases_by_the_inputs_of_an_output(
    layer: Any, shape: tuple[int, ...], fan_in: int
) -> None:
    params = jax.jit(layer.init)(jax.random.key(0), np.ones((1, *shape), np.float32))["params"]
    for values in (params["kernel"], params["bias"]):
        check_uniform(np.asarray(values), fan_in)


@pytest.mark.slow
def test_torch_draws_the_biases_of_composite_layers() -> None:
    starts, x = starting_fields("torch"), np.ones((1, 8, 6), np.float32)
    separable = DepthwiseSeparableConv(2000, 3, **starts).init(jax.random.key(0), x)["params"]
    check_uniform(np.asarray(separable["depthwise"]["kernel"]), 3)
    check_uniform(np.asarray(separable["pointwise"]["bias"]), 6)
    sparse = SparseConv(LENET5_TABLE * 50, 3, **starts).init(jax.random.key(0), x)["params"]["bias"]
    seen = np.array([len(channels) for channels in LENET5_TABLE * 50])
    for count in np.unique(seen):
        check_uniform(np.asarray(sparse)[seen == count], 3 * count)


def test_torch_draws_a_recurrent_layer_by_the_size_of_its_state() -> None:
    params = GRU(300).init(jax.random.key(0), np.ones((1, 2, 4), np.float32))["params"]
    for values in jax.tree.leaves(params):
        check_uniform(np.asarray(values), 300)


def test_a_head_starts_as_lecun_had_it_unless_all_is_pytorchs() -> None:
    assert Parts(init="orthogonal").linear_head(3) == Dense(3)
    assert Parts(init="torch").linear_head(3) == Dense(3, INITIALISERS["torch"], uniform_by_inputs)


def test_unknown_initialiser() -> None:
    with pytest.raises(RequestError, match="unknown init 'lecum'; did you mean 'lecun'"):
        starting_fields("lecum")
