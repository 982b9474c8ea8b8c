"""Equivariance and invariance errors against loops and theory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.analysis.equivariance import equivariance_errors, relative
from cnnjax.analysis.findings import Finding
from cnnjax.analysis.grids import stage_grids
from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.analysis.sweep import Sweep
from cnnjax.layers.blocks import ConvBlock
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.layers.region_pooling import GlobalPool, region_pool
from cnnjax.models.network import Network, Stage
from cnnjax.ops.pooling import global_average_pool
from cnnjax.ops.transformations.table import act_on_grid
from tests.variables import drawn_variables

RNG = np.random.default_rng(2)
SIGNALS = RNG.normal(size=(7, 8, 1)).astype(np.float32)
IMAGES = RNG.normal(size=(7, 6, 6, 1)).astype(np.float32)
OBJECTS = np.pad(RNG.normal(size=(4, 5, 5, 1)), ((0, 0), (12, 12), (12, 12), (0, 0))).astype(np.float32)
CIRCULAR = ConvBlock(Conv(3, 3, border="circular"), nn.relu)
POOLED = Network((Stage("stage", CIRCULAR), Stage("pool", GlobalPool(global_average_pool)), Stage("head", Dense(2))))
STRIDED = Network((Stage("stage", ConvBlock(Conv(3, 3, strides=2), nn.leaky_relu)), Stage("head", Dense(2))))


def subject_of(model: Network, images: np.ndarray) -> Subject:
    return Subject(model, drawn_variables(model, images[:1].shape), (0.0,), (1.0,), -3.0, 3.0)


def by_place(findings: list[Finding]) -> dict[tuple[str, str | None, float | None], Finding]:
    return {(f.metric.split("/")[1], f.stage, f.magnitude): f for f in findings}


@pytest.mark.parametrize(("images", "name"), [(SIGNALS, "shift"), (IMAGES, "translation")], ids=["1-D", "2-D"])
def test_circular_convolutions_are_equivariant_and_global_pooling_invariant(images: np.ndarray, name: str) -> None:
    found = by_place(
        equivariance_errors(Sweep(subject_of(POOLED, images), images, name, [0.0, 2.0, 3.0], batch_size=4))
    )
    assert {stage for metric, stage, _ in found if metric == "equivariance_error"} == {"input", "stage"}
    assert {stage for metric, stage, _ in found if metric == "invariance_error"} == {"input", "stage", "pool", "head"}
    for (metric, stage, magnitude), finding in found.items():
        if magnitude == 0:
            assert (finding.value, finding.low, finding.high) == (0, 0, 0)
        elif metric == "equivariance_error" or stage in ("pool", "head"):
            assert finding.value < 1e-5
        else:
            assert finding.value > 0.3


def test_an_unpooled_strided_net_is_neither_and_errors_are_those_of_a_loop() -> None:
    subject = subject_of(STRIDED, SIGNALS)
    found = by_place(equivariance_errors(Sweep(subject, SIGNALS, "shift", [2.0, 1.0], batch_size=4)))
    before = {stage: np.asarray(f, np.float64) for stage, f in stage_outputs(subject, SIGNALS).items()}
    batches = [[0, 1, 2, 3], [4, 5, 6, 4]]
    for magnitude in (1, 2):
        moved = np.roll(SIGNALS, magnitude, axis=1)
        after = {stage: np.asarray(f, np.float64) for stage, f in stage_outputs(subject, moved).items()}
        for stage, features in before.items():
            pairs = [(i, batch[(place + 1) % 4]) for batch in batches for place, i in enumerate(batch[:4])][:7]
            distance = np.mean([np.linalg.norm(features[i] - features[j]) for i, j in pairs])
            changed = np.mean([np.linalg.norm(after[stage][i] - features[i]) for i in range(7)])
            value = found["invariance_error", stage, magnitude].value
            np.testing.assert_allclose(value, changed / distance, rtol=1e-4)
            assert value > 0.2
        # One sample is half an element of the stage, on whose grid linear interpolation is the mean of two.
        there = np.roll(before["stage"], 1, axis=1)
        acted = there if magnitude == 2 else (before["stage"] + there) / 2
        ratios = [np.linalg.norm(after["stage"][i] - acted[i]) / np.linalg.norm(acted[i]) for i in range(7)]
        finding = found["equivariance_error", "stage", magnitude]
        np.testing.assert_allclose(finding.value, np.mean(ratios), rtol=1e-4)
        assert finding.low < finding.value < finding.high


def test_no_image_is_compared_with_itself() -> None:
    """The last batch holds one image, and its copies."""
    constant = np.stack([np.full((8, 1), value, np.float32) for value in (1, 2, 4)])
    subject = Subject(STRIDED, drawn_variables(STRIDED, (1, 8, 1)), (0.0,), (1.0,))
    found = by_place(equivariance_errors(Sweep(subject, constant, "gain", [20 * np.log10(2)], batch_size=2)))
    change = np.mean([1, 2, 4]) * 8**0.5
    np.testing.assert_allclose(found["invariance_error", "input", 20 * np.log10(2)].value, change / 8**0.5, rtol=1e-5)


def test_constant_features_have_no_error() -> None:
    subject = subject_of(POOLED, SIGNALS)
    variables = jax.tree.map(np.zeros_like, subject.variables)
    dead = Subject(POOLED, variables, (0.0,), (1.0,))
    found = by_place(equivariance_errors(Sweep(dead, SIGNALS, "shift", [1.0], batch_size=7)))
    errors = {(metric, stage): f.value for (metric, stage, _), f in found.items() if stage != "input"}
    assert set(errors.values()) == {0} and len(errors) == 4


def test_what_changes_only_when_transformed_is_infinitely_variable() -> None:
    same = np.repeat(SIGNALS[:1], 3, axis=0)
    found = by_place(equivariance_errors(Sweep(subject_of(POOLED, same), same, "shift", [1.0], batch_size=3)))
    assert found["invariance_error", "input", 1.0].value == np.inf


def test_photometric_transformations_act_on_no_grid() -> None:
    findings = equivariance_errors(
        Sweep(subject_of(POOLED, IMAGES), IMAGES, "noise", [0.0, 0.2], jax.random.key(0), batch_size=7)
    )
    assert {f.metric for f in findings} == {"noise/invariance_error"}
    assert all((f.value > 0) == (f.magnitude > 0) for f in findings)


@pytest.mark.parametrize(
    ("images", "name"),
    [(OBJECTS[:, 14], "shift"), (OBJECTS, "translation(direction=(-1, 1))")],
    ids=["1-D", "2-D"],
)
def test_without_padding_a_shift_by_whole_strides_is_no_error(images: np.ndarray, name: str) -> None:
    """The objects are so far from the border that no field that sees one leaves the grid."""
    stages = tuple(Stage(name, ConvBlock(Conv(3, 3, padding="valid", strides=2), nn.relu)) for name in ("one", "two"))
    subject = subject_of(Network((*stages, Stage("head", Dense(2)))), images)
    found = by_place(equivariance_errors(Sweep(subject, images, name, [4.0], batch_size=4)))
    assert max(found["equivariance_error", stage, 4.0].value for stage in ("one", "two")) < 1e-5


def test_turns_are_about_the_images_centre() -> None:
    """A stride that leaves the last row and column out puts the grid's own centre elsewhere: half a turn takes each
    position to the middle of four."""
    model = Network((Stage("stage", Conv(1, 1, strides=2, padding="valid")), Stage("head", Dense(2))))
    grid = stage_grids(subject_of(model, IMAGES), (6, 6, 1))["stage"]
    assert (grid.first, grid.step) == ((-2.5, -2.5), (2.0, 2.0))
    features = jnp.asarray(IMAGES[:, ::2, ::2])
    opposite = np.pad(features, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, ::-1, ::-1]
    windows = [opposite[:, i : i + 3, j : j + 3] for i in (0, 1) for j in (0, 1)]
    act = jax.jit(act_on_grid, static_argnums=(0, 3))
    np.testing.assert_allclose(act("rotation", features, 180.0, grid), np.mean(windows, axis=0), rtol=1e-5)
    mirrored = np.pad(features, ((0, 0), (0, 0), (0, 1), (0, 0)))[:, :, ::-1]
    expected = (mirrored[:, :, :3] + mirrored[:, :, 1:]) / 2
    np.testing.assert_allclose(act("reflection", features, 1.0, grid), expected, rtol=1e-5)


class Sorted(nn.Module):
    """What a position sees is known to nobody."""

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return jnp.sort(x, axis=1)[:, ::2]


def test_where_the_field_is_unknown_positions_divide_the_image_evenly() -> None:
    model = Network((Stage("stage", Sorted()), Stage("head", Dense(2))))
    grid = stage_grids(subject_of(model, SIGNALS), SIGNALS.shape[1:])["stage"]
    assert (grid.first, grid.step) == ((-3.0,), (2.0,))


@pytest.mark.parametrize("name", ["dynamic", "learned"])
def test_regions_of_a_signal_are_no_places(name: str) -> None:
    model = Network((Stage("stage", region_pool(name, 2)), Stage("head", Dense(2))))
    assert set(stage_grids(subject_of(model, SIGNALS), SIGNALS.shape[1:])) == {"input"}


def test_quotients_of_nothing() -> None:
    np.testing.assert_array_equal(relative(jnp.array([0.0, 2.0, 3.0]), jnp.array([0.0, 0.0, 2.0])), [0, 1, 1.5])


@pytest.mark.parametrize(("images", "batch_size"), [(SIGNALS[:1], 4), (SIGNALS, 1)])
def test_one_image_has_no_neighbour(images: np.ndarray, batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"needs two at least.*given {len(images)} images and batches of {batch_size}"):
        equivariance_errors(Sweep(subject_of(POOLED, SIGNALS), images, "shift", [1.0], batch_size=batch_size))
