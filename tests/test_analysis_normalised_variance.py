"""Normalised variance against a loop and theory."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from scipy import stats

from cnnjax.analysis.normalised_variance import normalised_variance
from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.analysis.sweep import Sweep
from cnnjax.layers.blocks import ConvBlock
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.layers.region_pooling import GlobalPool
from cnnjax.models.network import Network, Stage
from cnnjax.ops.pooling import global_average_pool
from tests.variables import drawn_variables

RNG = np.random.default_rng(3)
SIGNALS = (5 + RNG.normal(size=(7, 6, 1))).astype(np.float32)
STAGE = Stage("stage", ConvBlock(Conv(3, 3, border="circular"), nn.leaky_relu))
POOLED = Network((STAGE, Stage("pool", GlobalPool(global_average_pool)), Stage("head", Dense(2))))


def subject_of(images: np.ndarray) -> Subject:
    return Subject(POOLED, drawn_variables(POOLED, images[:1].shape), (0.0,), (1.0,))


def by_loop(values: np.ndarray) -> float:
    """Of activations [M, N, U]."""
    quotients = []
    for unit in np.moveaxis(values, 2, 0):
        along, across = np.mean(np.var(unit, axis=0, ddof=1)), np.mean(np.var(unit, axis=1, ddof=1))
        if along or across:
            quotients.append(along / across)
    return float(np.mean(quotients))


def test_it_is_that_of_a_loop_and_nothing_for_an_invariant_stage() -> None:
    subject = subject_of(SIGNALS)
    shifts = [-1, 0, 2]
    findings = normalised_variance(Sweep(subject, SIGNALS, "shift", shifts, batch_size=4))
    assert [f.stage for f in findings] == ["input", "stage", "pool", "head"]
    outputs = [stage_outputs(subject, np.roll(SIGNALS, shift, axis=1)) for shift in shifts]
    for finding in findings[:2]:
        values = np.stack([np.asarray(o[finding.stage], np.float64).reshape(7, -1) for o in outputs])
        np.testing.assert_allclose(finding.value, by_loop(values), rtol=1e-4)
        left = [by_loop(np.delete(values, image, axis=1)) for image in range(7)]
        reach = stats.t.ppf(0.975, 6) * np.sqrt(6 / 7 * np.sum((np.array(left) - np.mean(left)) ** 2))
        np.testing.assert_allclose(
            [finding.low, finding.high], [finding.value - reach, finding.value + reach], rtol=1e-3
        )
        assert finding.metric == "shift/normalised_variance"
    assert all(finding.value < 1e-9 for finding in findings[2:])


def test_even_images_have_none_under_shifts_and_independent_pixels_one() -> None:
    images = np.broadcast_to(RNG.normal(size=(200, 1, 1, 1)), (200, 4, 4, 1)).astype(np.float32)
    values = normalised_variance(Sweep(subject_of(images), images, "translation", [0.0, 1.0], batch_size=100))
    assert max(f.value for f in values) < 1e-9
    drawn = RNG.normal(size=(200, 4, 4, 1)).astype(np.float32)
    first = normalised_variance(Sweep(subject_of(drawn), drawn, "translation", [0.0, 1.0], batch_size=100))[0]
    assert abs(first.value - 1) < 0.1


def test_units_that_never_vary_are_left_out() -> None:
    subject = subject_of(SIGNALS)
    variables = jax.tree.map(np.copy, subject.variables)
    kernel = next(leaf for leaf in jax.tree.leaves(variables["params"]["stage"]) if leaf.ndim == 3)
    asked = Sweep(Subject(POOLED, variables, (0.0,), (1.0,)), SIGNALS, "shift", [0.0, 1.0], batch_size=7)
    kernel[..., 1:] = 0
    alive = normalised_variance(asked)
    kernel[...] = 0
    dead = normalised_variance(asked)
    assert alive[1].value > 0.2
    assert np.isnan([f.value for f in dead[1:]]).all()


@pytest.mark.parametrize(("examples", "magnitudes"), [(1, [0.0, 1.0]), (3, [1.0])])
def test_a_variance_needs_two(examples: int, magnitudes: list[float]) -> None:
    with pytest.raises(ValueError, match=f"given {examples} and {len(magnitudes)}"):
        normalised_variance(Sweep(subject_of(SIGNALS), SIGNALS[:examples], "shift", magnitudes))
