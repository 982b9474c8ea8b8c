"""The configurable network: its shapes, its options, and the equivariance that convolution promises."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import Config, ModelConfig, OptimConfig, RequestError, TrainConfig
from cnnjax.data.dataset import Dataset, Split
from cnnjax.layers.region_pooling import REGION_POOLS
from cnnjax.models.convnet import convnet, convnet_mnist1d
from cnnjax.models.description import describe
from cnnjax.models.network import Network, run_stages
from cnnjax.train.assembly import assemble
from cnnjax.train.beginning import Shared
from cnnjax.train.interruption import Interruption
from cnnjax.train.loop import Listeners, fit
from cnnjax.train.program import Report
from cnnjax.train.step import variables_of
from tests.training_step import losses_around_a_step
from tests.variables import drawn_variables

Shape = tuple[int, ...]


def shapes_of(model: Network, input_shape: Shape) -> dict[str, Shape]:
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(input_shape, np.float32))
    flat = jax.tree_util.tree_leaves_with_path(variables)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in flat}


@pytest.mark.parametrize("spatial", [(12,), (12, 8), (8, 8, 4)])
def test_parameters_in_every_number_of_dimensions(spatial: Shape) -> None:
    model = convnet(10, width=3, depth=2, kernel_size=5)
    window, pooled = (5,) * len(spatial), int(np.prod([size // 4 for size in spatial]))
    assert model.stage_names == ("stage1", "stage2", "head")
    assert shapes_of(model, (1, *spatial, 2)) == {
        "params/stage1/conv/kernel": (*window, 2, 3),
        "params/stage1/conv/bias": (3,),
        "params/stage2/conv/kernel": (*window, 3, 6),
        "params/stage2/conv/bias": (6,),
        "params/head/layer/kernel": (pooled * 6, 10),
        "params/head/layer/bias": (10,),
    }


def test_width_doubles_with_depth() -> None:
    shapes = shapes_of(convnet(10, width=4, depth=4), (1, 16, 1))
    assert [shapes[f"params/stage{i}/conv/bias"] for i in (1, 2, 3, 4)] == [(4,), (8,), (16,), (32,)]


@pytest.mark.parametrize("spatial", [(11,), (9, 7)])
def test_logits_in_one_and_two_dimensions(spatial: Shape) -> None:
    model = convnet(3, width=2, depth=1, kernel_size=3, pool="average", act="identity", padding="valid")
    x = np.random.default_rng(0).normal(size=(2, *spatial, 1)).astype(np.float32)
    variables = drawn_variables(model, x.shape)
    apply = jax.jit(model.apply)
    at_zero, once, twice = (np.asarray(apply(variables, factor * x)) for factor in (0, 1, 2))
    assert once.shape == (2, 3)
    np.testing.assert_allclose(twice - at_zero, 2 * (once - at_zero), rtol=1e-3, atol=1e-4)  # linear but for biases
    assert np.abs(once - at_zero).max() > 0.1


@pytest.mark.parametrize(
    ("pool", "shift", "spatial"),
    [("max", 4, (32,)), ("max", 4, (24, 20)), ("average", 4, (32,)), ("stride", 4, (32,)), ("none", 1, (32,))],
)
def test_features_move_with_the_input(pool: str, shift: int, spatial: Shape) -> None:
    model = convnet(10, width=2, depth=2, kernel_size=3, pool=pool, act="abs")
    x = np.zeros((1, *spatial, 1), np.float32)
    middle = (slice(None), *[slice(8, size - 8) for size in spatial])
    x[middle] = np.random.default_rng(0).normal(size=x[middle].shape)
    variables = drawn_variables(model, x.shape)
    features = jax.jit(lambda x: run_stages(model, variables, x, until="stage2"))
    found, still = features(np.roll(x, shift, axis=1)), features(x)
    moved = np.roll(still, shift // 4 if shift == 4 else shift, axis=1)
    inside = (slice(None), *[slice(2, size - 2) for size in still.shape[1:-1]])  # bias spreads from the border
    np.testing.assert_allclose(found[inside], moved[inside], rtol=1e-5, atol=1e-5)
    assert np.abs(found - still).max() > 0.1


def test_norm_stands_in_every_stage_and_shares_the_axis() -> None:
    model = convnet(10, norm="batch", axis_name="devices")
    shapes = shapes_of(model, (1, 8, 1))
    assert shapes["params/stage1/norm/scale"] == shapes["batch_stats/stage1/norm/mean"] == (16,)
    assert shapes["params/stage2/norm/scale"] == shapes["batch_stats/stage2/norm/var"] == (32,)
    assert [stage.module.norm.axis_name for stage in model.stages[:-1]] == ["devices"] * 2


def test_dropout_stands_before_the_head_alone() -> None:
    model = convnet(4, width=2, depth=1, kernel_size=3, dropout=0.5)
    x = np.random.default_rng(0).normal(size=(2, 8, 1)).astype(np.float32)
    variables = drawn_variables(model, x.shape)

    @jax.jit
    def run(key: jax.Array) -> list[jax.Array]:
        options = {"train": True, "rngs": {"dropout": key}}
        return [model.apply(variables, x, until=until, **options) for until in ("stage1", "head")]

    features, logits = run(jax.random.key(0))
    np.testing.assert_allclose(features, run_stages(model, variables, x, until="stage1"), rtol=1e-5, atol=1e-6)
    assert np.abs(logits - run_stages(model, variables, x)).max() > 0.01


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("pool", "maxx", "unknown pool 'maxx'; did you mean 'max'?"),
        ("pool", "dynamc", "unknown pool 'dynamc'; did you mean 'dynamic'?"),
        ("norm", "bach", "unknown norm 'bach'; did you mean 'batch'?"),
        ("act", "rellu", "unknown act 'rellu'; did you mean 'relu'?"),
        ("init", "lecum", "unknown init 'lecum'; did you mean 'lecun'?"),
    ],
)
def test_unknown_option_names_the_nearest(field: str, value: str, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        convnet(10, **{field: value})
    assert str(caught.value) == says


FEATURES = {  # of an example with eight maps: a pool of size 3, in one and two dimensions
    "global_average": (8, 8),
    "global_max": (8, 8),
    "adaptive_average": (3 * 8, 9 * 8),
    "adaptive_max": (3 * 8, 9 * 8),
    "pyramid": ((1 + 2 + 3) * 8, (1 + 4 + 9) * 8),
    "dynamic": (9 * 8, 9 * 8),
    "learned": (3 * 8, 9 * 8),
}


@pytest.mark.parametrize("pool", REGION_POOLS)
def test_regions_take_the_last_stage_and_windows_those_before(pool: str) -> None:
    model = convnet(10, width=4, kernel_size=3, pool=pool, pool_size=3)
    for spatial, features in zip([(18,), (18, 12)], FEATURES[pool], strict=True):
        shapes = shapes_of(model, (1, *spatial, 2))
        assert shapes["params/head/layer/kernel"] == (features, 10)
        table = describe(model, (*spatial, 2))
        assert table.output[0] == (*(size // 3 for size in spatial), 4)  # max pooling
        assert table.receptive_field[0] == (5,) * len(spatial)
        assert table.receptive_field[1] is None


def test_causal_padding_sees_nothing_that_comes_later() -> None:
    model = convnet(3, width=2, depth=2, kernel_size=3, pool="none", padding="causal")
    variables = drawn_variables(model, (1, 9, 1))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 9, 1)), jnp.float32)
    seen = jax.jacobian(lambda x: run_stages(model, variables, x, until="stage2")[0].sum(-1))(x)[:, 0, :, 0]
    assert seen.shape == (9, 9)
    assert not np.triu(seen, 1).any()
    assert np.tril(seen).any(1).all()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"pool": "none", "pool_size": 3}, "pool 'none' has no windows here, and no pool_size"),
        ({"pool": "none", "pool_stride": 1}, "pool 'none' has no windows here, and no pool_stride"),
        ({"pool": "global_average", "depth": 1, "pool_size": 2}, "pool 'global_average' has no windows here"),
        ({"pool": "pyramid", "depth": 1, "pool_stride": 2}, "pool 'pyramid' has no windows here"),
        ({"pool_order": 2.0}, "pool_order is of pool 'lp' alone; the pool is 'max'"),
        (
            {"pool": "stochastic", "downsample": "blur"},
            "downsample 'blur' takes the place of pool max",
        ),
        ({"pool": "none", "downsample": "blur"}, "downsample 'blur' has no stride to blur here, with pool 'none'"),
        ({"pool": "max_blur", "downsample": "blur"}, "downsample 'blur' has no stride to blur here"),
        ({"pool": "dynamic", "depth": 1, "downsample": "blur"}, "downsample 'blur' has no stride to blur here"),
        ({"kernel_size": 1, "dilation": 2}, "a kernel_size of 1 has nothing to dilate"),
        ({"downsample": "blurr"}, "unknown downsample 'blurr'; did you mean 'blur'?"),
        ({"connectivity": "dense", "padding": "circular"}, "connectivity 'dense' has no border"),
        ({"connectivity": "dense", "padding": "causal"}, "connectivity 'dense' has no border"),
    ],
)
def test_senseless_fields_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=re.escape(says)):
        convnet(10, **fields)


def test_windows_of_the_stages_before_a_global_pool_have_a_size() -> None:
    table = describe(convnet(10, width=2, pool="global_max", pool_size=3), (18, 2))
    assert table.output.tolist()[:2] == [(6, 2), (4,)]


def test_dilation_and_the_order_of_a_pool_reach_their_layers() -> None:
    model = convnet(10, width=2, depth=1, kernel_size=3, dilation=2, pool="lp", pool_order=4)
    assert describe(model, (12, 1)).receptive_field[0] == (6,)
    pool, x = model.stages[0].module.pool, np.array([1, 2, 3, -4], np.float32).reshape(1, 4, 1)
    expected = [((1 + 16) / 2) ** 0.25, ((81 + 256) / 2) ** 0.25]
    np.testing.assert_allclose(pool.apply({}, x).ravel(), expected, rtol=1e-6)


def test_blurred_downsampling_by_hand() -> None:
    """One feature of weight 1: what is left is the detector, then [1, 2, 1] / 4 at every second position."""
    x = np.array([3, -1, 4, 1, -5, 9, 2], np.float32)
    detected = np.maximum(x, 0)
    before, after = np.append(detected[1], detected[:-1]), np.append(detected[1:], detected[-2])
    expected = ((before + 2 * detected + after) / 4)[::2]
    params = {"stage1": {"conv": {"kernel": np.ones((1, 1, 1), np.float32), "bias": np.zeros(1, np.float32)}}}
    for pool in ("stride", "average"):
        model = convnet(2, width=1, depth=1, kernel_size=1, pool=pool, downsample="blur")
        found = run_stages(model, {"params": params}, x.reshape(1, 7, 1), until="stage1")
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-6)


def test_blur_makes_a_strided_network_more_stable_under_shifts() -> None:
    """On a circle: a shift by one and then down-sampling by two changes blurred features less (Zhang 2019)."""
    x = np.random.default_rng(0).normal(size=(8, 16, 16, 1)).astype(np.float32)
    changes = {}
    for downsample in ("stride", "blur"):
        model = convnet(2, width=4, depth=2, kernel_size=3, pool="stride", padding="circular", downsample=downsample)
        variables = drawn_variables(model, (1, 16, 16, 1))
        features = [run_stages(model, variables, images, until="stage2") for images in (x, np.roll(x, 1, 1))]
        means = [feature.mean((1, 2)) for feature in features]
        changes[downsample] = np.linalg.norm(means[1] - means[0]) / np.linalg.norm(means[0])
    assert changes["blur"] < changes["stride"] / 2


@pytest.mark.parametrize("pool", ["max", "average"])
def test_blurred_network_on_a_circle_is_equivariant_to_whole_strides(pool: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype(np.float32)
    model = convnet(2, width=3, depth=2, kernel_size=3, pool=pool, padding="circular", downsample="blur")
    variables = drawn_variables(model, (1, 16, 16, 1))
    still, shifted = (run_stages(model, variables, images, until="stage2") for images in (x, np.roll(x, 4, 1)))
    np.testing.assert_allclose(shifted, np.roll(still, 1, 1), atol=1e-5)
    assert np.abs(still).max() > 0.1


def test_windows_overlap_where_their_stride_is_less_than_their_size() -> None:
    model = convnet(10, width=4, depth=1, kernel_size=3, pool="max", pool_size=3, pool_stride=2)
    table = describe(model, (18, 13, 2))
    assert table.output[0] == (8, 6, 4)
    assert table.receptive_field[0] == (5, 5)


@pytest.mark.parametrize("pool", sorted(set(REGION_POOLS) - {"learned"}))
def test_with_regions_images_of_any_size_give_as_many_features(pool: str) -> None:
    model = convnet(10, width=2, kernel_size=3, pool=pool)
    assert shapes_of(model, (1, 12, 12, 1)) == shapes_of(model, (1, 20, 30, 1))


def test_regions_are_pooled_behind_the_detector() -> None:
    model = convnet(2, width=1, depth=1, kernel_size=1, pool="global_average")
    x = np.array([-4, 2, -6, 8], np.float32).reshape(1, 4, 1)
    params = {"stage1": {"conv": {"kernel": np.ones((1, 1, 1), np.float32), "bias": np.zeros(1, np.float32)}}}
    np.testing.assert_array_equal(run_stages(model, {"params": params}, x, until="stage1"), [[2.5]])


def test_baseline_of_mnist1d_has_5210_parameters() -> None:
    shapes = shapes_of(convnet_mnist1d(10), (1, 40, 1))
    assert shapes["params/stage1/conv/kernel"] == (5, 1, 25)
    assert shapes["params/stage3/conv/kernel"] == (3, 25, 25)
    assert shapes["params/head/kernel"] == (5 * 25, 10)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 5_210
    assert sum(int(np.prod(shape)) for shape in shapes_of(convnet_mnist1d(10, width=3), (1, 40, 1)).values()) == 238


@pytest.mark.slow
def test_a_step_lowers_the_loss() -> None:
    small = convnet(3, width=2, kernel_size=3, depth=1)
    shapes = {small: ((6, 16, 1), (4, 8, 8, 1), (4, 6, 6, 6, 1)), convnet_mnist1d(3, width=3): ((6, 16, 1),)}
    for model, shape in [(model, shape) for model, of_model in shapes.items() for shape in of_model]:
        before, after = losses_around_a_step(model, shape, classes=3, lr=0.05)
        assert after < before, shape


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(36, 1), (6, 6, 1)])
def test_dynamic_regions_move_in_a_run_and_serve_its_evaluation(shape: Shape, toy: Dataset) -> None:
    def reshaped(split: Split) -> Split:
        return dataclasses.replace(split, images=split.images.reshape(-1, *shape))

    splits = (reshaped(split) for split in (toy.train, toy.validation, toy.test))
    dataset = Dataset(dataclasses.replace(toy.summary, shape=shape), *splits)
    config = Config(
        model=ModelConfig("convnet", width=2, depth=2, kernel_size=3, pool="dynamic"),
        optim=OptimConfig(lr=0.01),
        train=TrainConfig(epochs=1, batch_size=8, eval_batch_size=8),
    )
    run = assemble(config, dataset, 0, Shared(), Interruption())
    path = "stage2/pool/centres"
    assert set(run.state.stats) == {path}
    before = np.array(run.state.stats[path])
    reports: list[Report] = []
    listeners = Listeners(
        on_evaluated=None,
        on_report=lambda run, step, report: reports.append(report),
        on_diverged=lambda run, reason: None,
        on_save=lambda run, step, state: None,
        on_progress=lambda steps, seconds: None,
    )
    state = fit(run.program, run.state, [0], run.inputs, run.plans, listeners, Interruption())
    after = np.array(state.stats[path])
    assert before.shape == after.shape == (4, 4)
    assert np.abs(after - before).max() > 1e-3

    mean, std = dataset.summary.mean[0], dataset.summary.std[0]
    x = (dataset.validation.images.astype(np.float32) - mean) / std
    model = convnet(3, width=2, depth=2, kernel_size=3, pool="dynamic")
    logits = np.asarray(run_stages(model, variables_of(state.trained, state.stats), x), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = -log_p[np.arange(len(x)), dataset.validation.labels].mean()
    np.testing.assert_allclose(reports[-1].validation.metrics()["loss"], loss, rtol=1e-4)
