"""From a config to a network: what is refused, where it starts, and what is trained."""

import dataclasses
import re
from types import MappingProxyType

import jax
import numpy as np
import pytest

from cnnjax.config import Config, DataConfig, ModelConfig, RequestError, TrainConfig, override
from cnnjax.data.dataset import DataSummary
from cnnjax.filters.saved import Saved
from cnnjax.models import registry
from cnnjax.models.coates import coates
from cnnjax.train import setup
from cnnjax.train.setup import (
    Blueprint,
    Partition,
    abstract_collections,
    build_model,
    check_devices,
    check_request,
    check_ridge,
    count,
    head_place,
    init_function,
    make_blueprint,
    starting_values,
)

SUMMARY = DataSummary(
    "digits_8x8", (8, 8, 1), 10, (78.0,), (96.0,), 0.0, 255.0, {"train": 1258, "validation": 180, "test": 359}
)
CONFIG = Config(
    model=ModelConfig(name="convnet", width=2, depth=2, kernel_size=3, norm="batch"),
    data=DataConfig(name="digits_8x8"),
    train=TrainConfig(batch_size=16, eval_batch_size=16),
)


GREEDY = override(CONFIG, {"filters": "stage.*=kmeans,frozen;head/.*=init,trained"})
SAVED: Saved = MappingProxyType({"arm:a": {"params": {}, "batch_stats": {}}})


def blueprint_of(plan: str, **changes: object) -> Blueprint:
    fields = {path.replace("__", "."): value for path, value in changes.items()}
    return make_blueprint(override(CONFIG, {"filters": plan, **fields}), SUMMARY)


def partitioned(plan: str) -> Partition:
    return blueprint_of(plan).parts


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "train.batch_size",
            1264,
            "config.train.batch_size: 1264 is more than the 1258 training examples of digits_8x8",
        ),
        ("train.epochs", 1e8, "config.train.epochs: 1e[+]08 are too many; at most 27531841 with this batch_size"),
        ("train.epochs", 1e300, "config.train.epochs: 1e[+]300 are too many"),
        ("train.epochs", 2e6, "config.train.eval_every: 1 epochs are too few for 2e[+]06 epochs; at least 2"),
        ("model.name", "convnt", "did you mean 'convnet'"),
        ("model.norm", "bach", "did you mean 'batch'"),
        ("model.depth", 5, "convnet does not take images of"),
        ("filters", ".*=gausian,trained", "did you mean 'gaussian'"),
        ("filters", "head/.*=init,trained", "no rule covers"),
        ("filters", ".*=init,frozen", "everything is frozen"),
        ("filters", ".*=init,trained;stage1/.*=he,frozen", "stage1/conv/kernel is covered twice"),
        ("filters", ".*=checkpoint:,trained", "config.filters: source of filters 'checkpoint:': needs a name"),
        ("filters", ".*=init,frozen,2", "config.filters: .*: combinations need filters that are drawn or fitted"),
        ("filters", "stage1/.*=zca,frozen;.*(2|head)/.*=gabor,trained", "config.filters: head/layer/kernel: a Gabor"),
        ("filters", "stage1/.*=arm:a,frozen;.*(2|head)/.*=init,trained", "arm:a has no stage1/conv/kernel"),
        ("model.kernel_size", 9, "config.filters: stage1/conv/kernel: no window of [(]9, 9[)] lies within"),
    ],
)
def test_wrong_request(field: str, value: object, message: str) -> None:
    with pytest.raises(RequestError, match=message) as raised:
        check_request(override(GREEDY, {field: value}), SUMMARY, SAVED)
    assert str(raised.value).startswith("config.")
    assert "\n" not in str(raised.value)


RIGHT = ({}, {"head.name": "ridge"}, {"filters": "stage.*=he,frozen,3;head/.*=init,trained"})


@pytest.mark.parametrize("changes", RIGHT)
def test_right_requests_pass(changes: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    check_devices(override(GREEDY, changes), SUMMARY)
    # What a request asks of devices is asked of those that will train, which may be another machine's.
    monkeypatch.setattr(jax, "device_count", lambda: 7)
    monkeypatch.setattr(setup, "device_memory", lambda: 0.0)
    check_request(override(GREEDY, changes), SUMMARY, SAVED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train.batch_size": 20},
            "config.train.batch_size: 8 devices do not divide a batch of 20; 16 or 24 would do",
        ),
        (
            {"train.batch_size": 16, "train.accumulate": 3},
            "config.train.batch_size: 8 devices of 3 parts do not divide a batch of 16; 24 would do",
        ),
        (
            {"train.eval_batch_size": 100},
            "config.train.eval_batch_size: 8 devices do not divide a batch of 100; 96 or 104 would do",
        ),
        (
            {"head.name": "ridge"},
            "config.head.name: ridge on 16 features of 1258 examples needs 0 GiB, and there are 0; use logistic, or "
            "fewer features by more pooling",
        ),
    ],
)
def test_request_that_the_devices_cannot_do(
    changes: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    monkeypatch.setattr(setup, "device_memory", lambda: 1000.0)
    with pytest.raises(RequestError, match=f"^{re.escape(message)}$"):
        check_devices(override(GREEDY, changes), SUMMARY)


def test_augmentation_of_other_dimensions_is_refused() -> None:
    message = "config.data.augment: gain is for 1 spatial dimensions; the data have 2"
    with pytest.raises(RequestError, match=f"^{re.escape(message)}$"):
        check_request(override(GREEDY, {"data.augment": "flip,gain"}), SUMMARY, SAVED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"filters": ".*=init,trained"},
            "config.head.name: all but the dense layer head/layer must be frozen, and it trained; "
            "stage1/conv/kernel is trained",
        ),
        (
            {"filters": "stage.*|head/layer/bias=he,frozen;head/layer/kernel=init,trained"},
            "config.head.name: all but the dense layer head/layer must be frozen, and it trained; "
            "head/layer/bias is frozen",
        ),
        (
            {"filters": "stage.*=he,frozen;head/.*=he,trained,2"},
            "config.head.name: all but the dense layer head/layer must be frozen, and it trained; "
            "head/layer/mixing is trained",
        ),
        ({"data.augment": "flip"}, "config.data.augment: ridge sees each example as it is; leave it empty"),
    ],
)
def test_head_in_closed_form_needs_all_else_frozen_and_one_dense_layer(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(RequestError, match=f"^{re.escape(message)}$"):
        check_request(override(GREEDY, {"head.name": "ridge", **changes}), SUMMARY, SAVED)


def test_network_without_a_dense_head_has_none_in_closed_form() -> None:
    config = Config(model=ModelConfig(name="all_cnn_c", width=2))
    with pytest.raises(RequestError, match=r"^config.head.name: head of this network is not one dense layer; use sgd"):
        head_place(make_blueprint(config, dataclasses.replace(SUMMARY, shape=(16, 16, 1))))


def test_head_is_the_dense_layer_of_the_last_stage() -> None:
    place = head_place(blueprint_of("stage.*=he,frozen;head/.*=init,trained"))
    assert (place.path, place.fan_in, place.features) == ("head/layer/kernel", 16, 10)
    assert head_place(blueprint_of(".*=init,trained", model=ModelConfig("logistic"))).path == "head/kernel"


def test_start_is_a_function_of_the_seed() -> None:
    blueprint = blueprint_of("stage1/.*=gaussian,frozen,2;head/.*=init,trained", model__depth=1)
    init = init_function(blueprint.model, SUMMARY)
    images = np.zeros((1, 8, 8, 1), np.uint8)

    def start(seed: int) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        return starting_values(blueprint, init(seed), seed, images, [], {}, CONFIG.fit, SAVED, lambda what, share: None)

    (first, stats), (again, _), (other, _) = start(3), start(3), start(4)
    assert {path: array.shape for path, array in first.items()} == {
        path: array.shape for path, array in blueprint.abstract["params"].items()
    }
    kernels = [path for path, array in first.items() if array.ndim > 1]
    assert len(kernels) == 3
    for path in first:
        assert np.array_equal(first[path], again[path])
    for path in kernels:
        assert not np.array_equal(first[path], other[path])
    # Statistics start as those of inputs of mean 0 and variance 1.
    for path, array in stats.items():
        np.testing.assert_array_equal(array, np.full(array.shape, path.endswith("var")))


def test_blueprint_has_the_banks_in_place_of_the_kernels() -> None:
    blueprint = blueprint_of(".*/conv/kernel=he,frozen,3;(.*/norm|head)/.*=init,trained")
    shapes = {path: array.shape for path, array in blueprint.abstract["params"].items()}
    assert shapes["stage2/conv/kernel"] == (3, 3, 2, 12)
    assert shapes["stage2/conv/mixing"] == (12, 4)
    assert blueprint.rules.keys() == shapes.keys()
    parts = blueprint.parts
    assert parts.frozen == {"stage1/conv/kernel", "stage2/conv/kernel"}
    assert {"stage1/conv/mixing", "stage2/conv/mixing", "stage1/norm/scale"} <= parts.trained
    assert parts.prefix is None and not parts.modules and len(parts.moving) == 4


def test_norms_alone_are_trained() -> None:
    parts = partitioned(".*/norm/.*=init,trained;.*/(conv|layer)/.*=init,frozen")
    assert parts.trained == {f"stage{i}/norm/{name}" for i in (1, 2) for name in ("scale", "bias")}
    assert len(parts.moving) == 4 and not parts.fixed


def test_all_frozen_but_the_matrices_of_combinations() -> None:
    parts = partitioned(".*=he,frozen,2")
    assert parts.trained == {f"{layer}/mixing" for layer in ("stage1/conv", "stage2/conv", "head/layer")}


def test_stage_without_parameters_is_as_frozen_as_what_is_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.NETWORKS, "coates", coates)
    model = ModelConfig(name="coates", width=3, kernel_size=2)
    parts = blueprint_of("(whiten|code)/.*=init,frozen;head/.*=init,trained", model=model).parts
    assert parts.prefix == "pool"
    assert parts.modules == {"whiten", "code", "pool"}
    parts = blueprint_of("whiten/.*=init,frozen;(code|head)/.*=init,trained", model=model).parts
    assert (parts.prefix, parts.modules) == ("whiten", {"whiten"})


def test_all_is_trained_and_moves_without_a_frozen_rule() -> None:
    parts = partitioned(".*=init,trained")
    assert (parts.frozen, parts.fixed, parts.modules, parts.prefix) == (frozenset(),) * 3 + (None,)
    assert {path.split("/")[0] for path in parts.trained} == {"stage1", "stage2", "head"}
    assert len(parts.moving) == 4


def test_frozen_prefix_and_its_statistics() -> None:
    parts = partitioned("stage.*=gaussian,frozen;head.*=init,trained")
    assert parts.prefix == "stage2"
    assert {path.split("/")[0] for path in parts.trained} == {"head"}
    assert {path.split("/")[0] for path in parts.frozen} == {"stage1", "stage2"}
    assert not parts.moving
    assert {"stage1", "stage2", "stage1/norm"} <= parts.modules


def test_frozen_stage_behind_a_trained_one_is_no_prefix() -> None:
    parts = partitioned("stage2/.*=gaussian,frozen;(stage1|head)/.*=init,trained")
    assert parts.prefix is None
    assert parts.fixed == {"stage2/norm/mean", "stage2/norm/var"}
    assert parts.moving == {"stage1/norm/mean", "stage1/norm/var"}


def test_stage_frozen_in_part_is_no_prefix_and_its_norm_moves() -> None:
    parts = partitioned(".*/conv/.*=gaussian,frozen;(.*/norm|head)/.*=init,trained")
    assert parts.prefix is None
    assert "stage1/conv" in parts.modules
    assert "stage1" not in parts.modules
    assert not parts.fixed


def test_count_of_numbers() -> None:
    abstract = abstract_collections(build_model(CONFIG.model, SUMMARY), SUMMARY)["params"]
    # 3 x 3 windows, 1 to 2 and 2 to 4 maps, each with a scale and a shift; 2 x 2 x 4 inputs to 10 classes.
    assert count(abstract, frozenset(abstract)) == (18 + 4) + (72 + 8) + (160 + 10)


def test_ridge_whose_matrix_memory_cannot_hold() -> None:
    check_ridge(2**14, 10**6, 2.0**32)
    check_ridge(10**6, 2**14, 2.0**32)
    with pytest.raises(RequestError, match=r"ridge on 16385 features of 99999 examples needs 4 GiB, and there are 4; "):
        check_ridge(2**14 + 1, 99999, 2.0**32)
