"""From a config to a network: what is refused, where it starts, and what is trained."""

import jax
import numpy as np
import pytest

from cnnjax.config import Config, DataConfig, FilterRule, ModelConfig, RequestError, TrainConfig, override
from cnnjax.data.dataset import Dataset, DataSummary
from cnnjax.train.assembly import Assembly, Compiled, assemble
from cnnjax.train.interruption import Interruption
from cnnjax.train.setup import (
    Partition,
    abstract_variables,
    build_model,
    check_request,
    count,
    partition,
    rules_of,
    starting_function,
)

SUMMARY = DataSummary("digits_8x8", (8, 8, 1), 10, (78.0,), (96.0,), {"train": 1258, "validation": 180, "test": 359})
CONFIG = Config(
    model=ModelConfig(name="convnet", width=2, depth=2, kernel_size=3, norm="batch"),
    data=DataConfig(name="digits_8x8"),
    train=TrainConfig(batch_size=16, eval_batch_size=16),
)


def partitioned(plan: str) -> Partition:
    config = override(CONFIG, {"filters": plan})
    model = build_model(config.model, SUMMARY)
    abstract = abstract_variables(model, SUMMARY)
    return partition(model, abstract, rules_of(config, abstract))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "train.batch_size",
            1264,
            "config.train.batch_size: 1264 is more than the 1258 training examples of digits_8x8",
        ),
        (
            "train.batch_size",
            20,
            "config.train.batch_size: 8 devices do not divide a batch of 20; 16 or 24 would do",
        ),
        (
            "train.eval_batch_size",
            100,
            "config.train.eval_batch_size: 8 devices do not divide a batch of 100",
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
    ],
)
def test_wrong_request(monkeypatch: pytest.MonkeyPatch, field: str, value: object, message: str) -> None:
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    check_request(CONFIG, SUMMARY)
    with pytest.raises(RequestError, match=message) as raised:
        check_request(override(CONFIG, {field: value}), SUMMARY)
    assert str(raised.value).startswith("config.")
    assert "\n" not in str(raised.value)


def test_start_is_a_function_of_the_seed() -> None:
    plan = "stage1/.*=gaussian,trained;head/.*=init,trained"
    config = override(CONFIG, {"model.depth": 1, "filters": plan})
    model = build_model(config.model, SUMMARY)
    start = starting_function(model, SUMMARY, rules_of(config, abstract_variables(model, SUMMARY)))
    first, again, other = (start(seed)["params"] for seed in (3, 3, 4))
    kernels = [path for path, array in first.items() if array.ndim > 1]
    assert len(kernels) == 2
    for path in first:
        assert np.array_equal(first[path], again[path])
    for path in kernels:
        assert not np.array_equal(first[path], other[path])
    # Statistics start as those of inputs of mean 0 and variance 1.
    for path, array in start(3)["batch_stats"].items():
        np.testing.assert_array_equal(array, np.full(array.shape, path.endswith("var")))


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
    abstract = abstract_variables(build_model(CONFIG.model, SUMMARY), SUMMARY)["params"]
    # 3 x 3 windows, 1 to 2 and 2 to 4 maps, each with a scale and a shift; 2 x 2 x 4 inputs to 10 classes.
    assert count(abstract, frozenset(abstract)) == (18 + 4) + (72 + 8) + (160 + 10)


def test_assembly_is_as_long_as_the_config_says(linear: Assembly) -> None:
    assert linear.steps_per_epoch == 6  # 50 examples, 8 at a time
    assert linear.plan.steps == 13
    assert linear.plan.boundaries == (6, 12, 13)
    assert (linear.plan.validation, linear.plan.test) == ((0, 21), (21, 34))
    assert linear.parameters == linear.parameters_trained == 36 * 3 + 3
    assert not linear.from_features


def test_runs_that_differ_in_values_alone_compile_once(
    toy: Dataset, linear: Assembly, linear_config: Config, compiled: Compiled
) -> None:
    other = override(linear_config, {"filters": (FilterRule(".*", "gaussian"),)})
    seed = assemble(linear_config, toy, 1, compiled, Interruption())
    arm = assemble(other, toy, 0, compiled, Interruption())
    assert seed.program is arm.program is linear.program
    kernels = [np.asarray(run.state.trained["head/kernel"]) for run in (linear, seed, arm)]
    assert not any(np.array_equal(kernels[i], kernels[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    orders = [jax.random.key_data(run.inputs.keys.order).tolist() for run in (linear, seed, arm)]
    assert orders[0] == orders[2] != orders[1]  # arms are paired, seeds are not
