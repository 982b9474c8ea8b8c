"""A run whose examples stay in a file is the run whose examples lie on the device."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from cnnjax.config import Config, DataConfig, FilterRule, ModelConfig, OptimConfig, TrainConfig
from cnnjax.data.dataset import Dataset
from cnnjax.study.feature_files import FileStore
from cnnjax.train import assembly, beginning, windows
from cnnjax.train.assembly import Assembly, assemble
from cnnjax.train.beginning import Shared
from cnnjax.train.interruption import Interruption
from cnnjax.train.loop import evaluate
from tests.test_train_program import assert_identical, host, train

# 13 steps of 8, six to an epoch; what is trained has batch norm and dropout.
CONFIG = Config(
    model=ModelConfig(name="convnet", width=2, depth=2, kernel_size=3, pool="none", norm="batch", dropout=0.3),
    data=DataConfig(name="toy"),
    filters=(FilterRule("stage1/.*", "gaussian", "frozen"), FilterRule("(stage2|head)/.*")),
    optim=OptimConfig(name="sgd", lr=0.1, momentum=0.9),
    train=TrainConfig(epochs=13 / 6, batch_size=8, eval_batch_size=8),
)
ROW = 6 * 6 * 2 * 4  # bytes of the features of one example


@pytest.fixture(scope="module")
def resident(toy: Dataset) -> Assembly:
    """Its features lie on the device."""
    run = assemble(CONFIG, toy, 0, Shared(), Interruption())
    assert run.members[0].from_features and not isinstance(run.inputs.train.images, np.ndarray)
    return run


@pytest.fixture(scope="module")
def in_file(toy: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """Its features are in a file, and a window has four batches."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for module in (assembly, beginning):
            monkeypatch.setattr(module, "MOST_FEATURE_BYTES", 84 * ROW - 1)
        monkeypatch.setattr(windows, "WINDOW_BYTES", 4 * 8 * ROW)
        store = FileStore(epath.Path(tmp_path_factory.mktemp("features")))
        run = assemble(CONFIG, toy, 0, Shared(features=store), Interruption())
    assert isinstance(run.inputs.train.images, np.memmap) and isinstance(run.inputs.held_out.images, np.memmap)
    return run


def test_run_on_windows_is_the_run_on_the_device(resident: Assembly, in_file: Assembly) -> None:
    expected, found = train(resident, [13]), train(in_file, [13])
    assert (found.step, found.sums.examples) == (expected.step, expected.sums.examples)
    assert found.sums.correct == expected.sums.correct
    for group in ("trained", "stats"):
        for path, array in getattr(expected, group).items():
            np.testing.assert_allclose(getattr(found, group)[path], array, rtol=1e-5, atol=1e-6, err_msg=path)
            start = np.asarray(getattr(resident.state, group)[path])
            assert np.abs(array - start).max() > 1e-3 * np.abs(start).max(), path


def test_where_a_dispatch_ends_decides_nothing(in_file: Assembly) -> None:
    assert_identical(train(in_file, [13]), train(in_file, [1, 2, 5, 5]))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluation_on_windows_counts_every_example(split: str, resident: Assembly, in_file: Assembly) -> None:
    found = []
    for run in (resident, in_file):
        variables = {**run.inputs.frozen[0], **run.state.trained}, {**run.inputs.frozen[1], **run.state.stats}
        span = getattr(run.plans[0], split)
        sums = evaluate(run.program, 1, *variables, run.inputs.held_out, span, run.plans[0], Interruption())
        assert sums is not None and sums.examples == span[1] - span[0]
        found.append(host(sums))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_examples_larger_than_a_window_are_one_batch_each(
    toy: Dataset, in_file: Assembly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (assembly, beginning):
        monkeypatch.setattr(module, "MOST_FEATURE_BYTES", 1)
    monkeypatch.setattr(windows, "WINDOW_BYTES", 1)
    store = FileStore(epath.Path(tmp_path))
    run = assemble(CONFIG, toy, 0, Shared(features=store), Interruption())
    for one, other in zip(train(in_file, [3]).trained.items(), train(run, [3]).trained.items(), strict=True):
        np.testing.assert_allclose(one[1], other[1], rtol=1e-5, atol=1e-6, err_msg=one[0])


def test_cached_and_uncached_features_give_the_same_head_to_rounding(
    toy: Dataset, resident: Assembly, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = assembly.begin

    def without_features(*arguments: object) -> beginning.Beginning:
        images = np.concatenate([split.images for split in (toy.train, toy.validation, toy.test)])
        return dataclasses.replace(begin(*arguments), after=None, examples=images)  # type: ignore[arg-type]

    monkeypatch.setattr(assembly, "begin", without_features)
    run = assemble(CONFIG, toy, 0, Shared(), Interruption())
    assert not run.members[0].from_features and run.inputs.train.images.shape == (50, 6, 6, 1)
    expected, found = train(resident, [13]), train(run, [13])
    for path, array in expected.trained.items():
        np.testing.assert_allclose(found.trained[path], array, rtol=1e-3, atol=1e-5, err_msg=path)
    assert found.sums.loss == pytest.approx(expected.sums.loss, rel=1e-4)
