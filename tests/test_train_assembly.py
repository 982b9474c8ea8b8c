"""A run before its first step: where its variables start, and what it shares with others."""

from collections.abc import Iterator

import jax
import numpy as np
import pytest

from cnnjax.config import Config, DataConfig, FilterRule, FitConfig, ModelConfig, OptimConfig, TrainConfig, override
from cnnjax.data.dataset import Dataset, DataSummary, Split
from cnnjax.filters.saved import Saved
from cnnjax.filters.sources import DRAWN
from cnnjax.filters.unsupervised import FITS
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.models import registry
from cnnjax.models.network import Network, Stage
from cnnjax.train import beginning
from cnnjax.train.assembly import Assembly, assemble
from cnnjax.train.beginning import Beginning, Shared, begin, sizes_of
from cnnjax.train.interruption import Interruption, Stopped
from tests.test_train_program import host, train

FROZEN = Config(
    model=ModelConfig(name="convnet", width=2, depth=1, kernel_size=3, norm="batch"),
    data=DataConfig(name="toy"),
    filters=(FilterRule("stage1/.*", "gaussian", "frozen"), FilterRule("head/.*")),
    optim=OptimConfig(name="adam", lr=0.1, weight_decay=0.1),
    train=TrainConfig(epochs=1, batch_size=8, eval_batch_size=8),
)


def quietly(what: str, share: float) -> None:
    """Tells nobody."""


def begun(config: Config, data: Dataset, seed: int, shared: Shared, saved: Saved | None = None) -> Beginning:
    return begin(config, data, seed, shared, Interruption(), saved or {}, quietly)


def test_assembly_is_as_long_as_the_config_says(linear: Assembly) -> None:
    assert linear.members[0].steps_per_epoch == 6  # 50 examples, 8 at a time
    assert linear.plans[0].steps == 13
    assert linear.plans[0].boundaries == (6, 12, 13)
    assert (linear.plans[0].validation, linear.plans[0].test) == ((0, 21), (21, 34))
    assert sizes_of(linear.members[0].blueprint) == {"features": 36, "parameters": 111, "parameters_trained": 111}
    assert not linear.members[0].from_features


def test_runs_that_differ_in_values_alone_compile_once(
    toy: Dataset, linear: Assembly, linear_config: Config, shared: Shared
) -> None:
    other = override(linear_config, {"filters": (FilterRule(".*", "gaussian"),)})
    seed = assemble(linear_config, toy, 1, shared, Interruption())
    arm = assemble(other, toy, 0, shared, Interruption())
    assert seed.program is arm.program is linear.program
    kernels = [np.asarray(run.state.trained["head/kernel"]) for run in (linear, seed, arm)]
    assert not any(np.array_equal(kernels[i], kernels[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    orders = [jax.random.key_data(run.inputs.keys.order).tolist() for run in (linear, seed, arm)]
    assert orders[0] == orders[2] != orders[1]  # arms are paired, seeds are not


def test_banks_of_other_sizes_are_other_programs_and_stay_as_they_are(
    toy: Dataset, linear_config: Config, shared: Shared
) -> None:
    runs = []
    for times in (2, 3):
        rules = (FilterRule(".*kernel", "he", "frozen", times), FilterRule(".*bias"))
        runs.append(assemble(override(linear_config, {"filters": rules}), toy, 0, shared, Interruption()))
    assert [run.inputs.frozen[0]["head/kernel"].shape for run in runs] == [(36, 6), (36, 9)]
    for run in runs:
        bank = host(run.inputs.frozen)
        state = train(run, [13])
        assert host(run.inputs.frozen)[0]["head/kernel"].tobytes() == bank[0]["head/kernel"].tobytes()
        assert (state.trained["head/mixing"] != np.asarray(run.state.trained["head/mixing"])).any()
        assert state.trained.keys() == {"head/mixing", "head/bias"}


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many images each computation of features was for."""
    calls: list[int] = []
    compute = beginning.compute_features

    def count(function: object, variables: object, images: np.ndarray, *rest: object) -> None:
        calls.append(len(images))
        compute(function, variables, images, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(beginning, "compute_features", count)
    yield calls


def test_features_are_computed_once_for_all_that_share_them(toy: Dataset, computed: list[int]) -> None:
    shared = Shared()
    first = begun(FROZEN, toy, 0, shared)
    assert (first.after, first.examples.shape) == ("stage1", (84, 3, 3, 2))
    assert computed == [84]
    others = {"head.name": "ridge", "head.strengths": "1,2", "optim.lr": 0.5, "train.epochs": 3, "fit.patches": 7}
    for change, value in others.items():
        again = begun(override(FROZEN, {change: value}), toy, 0, shared)
        assert again.examples is first.examples, change
    assert computed == [84]
    assert (begun(FROZEN, toy, 1, shared).examples != first.examples).any()  # other filters
    assert computed == [84, 84]


def test_seeds_share_features_where_they_share_the_prefix(toy: Dataset, computed: list[int]) -> None:
    shared, source = Shared(), "checkpoint:runs/a"
    plan = (FilterRule("stage1/.*", source, "frozen"), FilterRule("head/.*"))
    config = override(FROZEN, {"filters": plan})
    rng = np.random.default_rng(0)
    abstract = begun(FROZEN, toy, 0, Shared()).blueprint.abstract
    drawn = {
        name: {path: rng.uniform(0.5, 2, array.shape).astype(np.float32) for path, array in flat.items()}
        for name, flat in abstract.items()
    }
    computed.clear()
    runs = [begun(config, toy, seed, shared, {source: drawn}) for seed in (0, 1, 2)]
    assert computed == [84]
    assert runs[0].examples is runs[2].examples
    for run in runs:  # parameters and statistics are those of the checkpoint, bit for bit; the head is the seed's own
        for path, array in [*run.params.items(), *run.stats.items()]:
            if path.startswith("stage1"):
                assert np.asarray(array).tobytes() == {**drawn["params"], **drawn["batch_stats"]}[path].tobytes()
    assert (runs[0].params["head/layer/kernel"] != runs[1].params["head/layer/kernel"]).any()
    # Other statistics are other features.
    drawn["batch_stats"]["stage1/norm/mean"] += 1
    begun(config, toy, 0, shared, {source: drawn})
    assert computed == [84, 84]


def test_no_features_where_they_would_be_of_no_use(toy: Dataset, computed: list[int]) -> None:
    learned = override(FROZEN, {"filters": ".*=init,trained"})
    augmented = override(FROZEN, {"data.augment": "shift"})
    for config in (learned, augmented):
        run = begun(config, toy, 0, Shared())
        assert run.after is None
        np.testing.assert_array_equal(run.examples[:50], toy.train.images)
        np.testing.assert_array_equal(run.examples[71:], toy.test.images)
    assert not computed


def test_signal_ends_the_preparation(toy: Dataset) -> None:
    interruption = Interruption()

    def receive(what: str, share: float) -> None:
        told.append(what)
        interruption.receive(15)

    told: list[str] = []
    with pytest.raises(Stopped):
        begin(FROZEN, toy, 0, Shared(), interruption, {}, receive)
    assert told == ["computing features of stage1"]


SOURCES = [*sorted(FITS), *sorted(DRAWN)]  # those first that look at what lies below them
SHAPES = {1: (12,), 2: (7, 6), 3: (5, 4, 4)}


def ladder(num_classes: int, *, kernel_size: int) -> Network:
    """A convolution for each source, called as it is, of four maps; `zca` needs as many as a patch has numbers."""
    dimensions = kernel_size % 10
    stages = [Stage("first", Conv(4, 1))]
    for source in SOURCES:
        stages.append(Stage(source, Conv(4 * 3**dimensions if source == "zca" else 4, 3)))
    return Network((*stages, Stage("head", Dense(num_classes))))


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", SHAPES)
def test_every_source_changes_with_the_seed_and_not_without(dimensions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.NETWORKS, "ladder", ladder)
    shape = (*SHAPES[dimensions], 1)
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (30, *shape)).astype(np.uint8), rng.integers(0, 3, 30).astype(np.int32))
    data = Dataset(
        DataSummary(
            "random", shape, 3, (128.0,), (70.0,), 0.0, 255.0, dict.fromkeys(("train", "validation", "test"), 30)
        ),
        *(split,) * 3,
    )
    plan = ";".join(f"{source}/.*={source},trained" for source in SOURCES) + ";(first|head)/.*=init,trained"
    config = Config(
        model=ModelConfig(name="ladder", kernel_size=10 + dimensions),
        filters=override(Config(), {"filters": plan}).filters,
        fit=FitConfig(patches=200, iterations=2),
    )
    shared = Shared()
    first, again, other = (begun(config, data, seed, shared).params for seed in (0, 0, 1))
    for source in SOURCES:
        path = f"{source}/kernel"
        assert np.isfinite(first[path]).all()
        assert np.asarray(first[path]).tobytes() == np.asarray(again[path]).tobytes(), source
        assert not np.array_equal(first[path], other[path]), source
