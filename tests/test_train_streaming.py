"""Runs whose data stay on disk against the same runs on data in memory."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath
from rich.console import Console

from cnnjax.config import (
    Config,
    DataConfig,
    FilterRule,
    HeadConfig,
    ModelConfig,
    OptimConfig,
    StudyConfig,
    TrainConfig,
    override,
)
from cnnjax.data.dataset import Dataset
from cnnjax.data.streamed import StreamedDataset, open_dataset
from cnnjax.study.experiment import Experiment
from cnnjax.study.results import collect, waiting
from cnnjax.study.runner import run_study
from cnnjax.study.workdir import Study, read_status, write_study
from cnnjax.train.assembly import Assembly, assemble
from cnnjax.train.beginning import Shared, begin
from cnnjax.train.head import fit_head
from cnnjax.train.interruption import Interruption
from cnnjax.train.loop import evaluate
from tests.prepared_sets import photographs
from tests.test_train_program import assert_identical, host, train


@pytest.fixture(scope="module")
def config(data_dir: str) -> Config:
    return Config(
        model=ModelConfig(name="convnet", width=2, depth=1, kernel_size=3, dropout=0.2),
        data=DataConfig(name="digits_8x8", dir=data_dir, augment=("shift",), streamed="always", workers=0),
        optim=OptimConfig(lr=0.05),
        train=TrainConfig(epochs=1, batch_size=256, eval_batch_size=100),
        study=StudyConfig(seeds=1, pack=1),
    )


@pytest.fixture(scope="module")
def streamed(config: Config) -> StreamedDataset:
    found = open_dataset(config.data)
    assert isinstance(found, StreamedDataset)
    # Its numbers are of a sample; the same ones make the runs comparable.
    return found


@pytest.fixture(scope="module")
def runs(config: Config, streamed: StreamedDataset, digits: Dataset) -> Iterator[dict[str, Assembly]]:
    """The same run on both."""
    resident = dataclasses.replace(digits, summary=streamed.summary)
    found = {
        name: assemble(config, data, 0, Shared(), Interruption())
        for name, data in (("streamed", streamed), ("resident", resident))
    }
    yield found
    streams = found["streamed"].members[0].streams
    assert streams is not None
    streams.close()


def test_streamed_steps_are_those_of_data_in_memory(runs: dict[str, Assembly]) -> None:
    expected = train(runs["resident"], [7])  # across the end of an epoch of five
    assert_close(train(runs["streamed"], [3, 4]), expected)
    # Another order of asking opens the stream anew where it is wanted.
    assert_identical(train(runs["streamed"], [7]), train(runs["streamed"], [2, 5]))


def assert_close(left: Any, right: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), left, right)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_example_is_evaluated_once(split: str, runs: dict[str, Assembly]) -> None:
    found = []
    for run in runs.values():
        plan, state = run.plans[0], run.members[0].state
        where = getattr(plan, split)
        for _ in range(2):  # the stream goes round
            feed, stop = run.inputs.held_out, Interruption()
            found.append(host(evaluate(run.program, 1, state.trained, state.stats, feed, where, plan, stop)))
        assert int(found[-1].examples) == where[1] - where[0]
    assert_close(found[0], found[1])
    assert_close(found[0], found[2])


@pytest.mark.slow
def test_filters_are_fitted_and_features_kept_of_what_is_streamed(
    config: Config, streamed: StreamedDataset, digits: Dataset
) -> None:
    rules = (FilterRule("stage1/.*", "patches", "frozen"), FilterRule("head/.*"))
    frozen = override(config, {"filters": rules, "data.augment": (), "fit.patches": 500})
    states = []
    for data in (streamed, dataclasses.replace(digits, summary=streamed.summary)):
        run = assemble(frozen, data, 0, Shared(), Interruption())
        assert run.members[0].from_features and run.members[0].streams is None
        states.append(train(run, [5]))
    assert_close(*states)


@pytest.mark.parametrize(
    ("model", "prefix"),
    [
        (ModelConfig(name="convnet", width=2, depth=1, kernel_size=3), "stage1"),
        pytest.param(ModelConfig(name="logistic"), None, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", ["ridge", pytest.param("logistic", marks=pytest.mark.slow)])
def test_head_in_closed_form_on_what_is_streamed(
    name: str, model: ModelConfig, prefix: str | None, config: Config, streamed: StreamedDataset, digits: Dataset
) -> None:
    rules = (*([FilterRule(f"{prefix}/.*", "gaussian", "frozen")] if prefix else []), FilterRule("head/.*"))
    head = HeadConfig(name=name, strengths=(1e-2,))
    asked = dataclasses.replace(override(config, {"filters": rules, "data.augment": ()}), model=model, head=head)
    found = []
    for data in (streamed, dataclasses.replace(digits, summary=streamed.summary)):
        start = begin(asked, data, 0, Shared(), Interruption(), {}, lambda what, share: None)
        assert start.after == prefix
        found.append(fit_head(head, start, data.summary, Interruption()))
    (kernel,) = (path for path in found[0].params if path.startswith("head/") and path.endswith("/kernel"))
    np.testing.assert_allclose(found[0].params[kernel], found[1].params[kernel], rtol=1e-3, atol=1e-5)
    assert found[0].metrics["test"] == pytest.approx(found[1].metrics["test"], rel=1e-4)


def test_head_in_closed_form_keeps_the_features_of_squares_cut_from_photographs(tmp_path: Path) -> None:
    data = dataclasses.replace(photographs(tmp_path), image_size=14)
    frozen = (FilterRule("stage1/.*", "gaussian", "frozen"), FilterRule("head/.*"))
    config = Config(model=ModelConfig(name="convnet", width=2, depth=1, kernel_size=3), data=data, filters=frozen)
    dataset, kept = open_dataset(data), {}
    for name in ("sgd", "ridge"):
        asked = override(config, {"head.name": name})
        kept[name] = begin(asked, dataset, 0, Shared(), Interruption(), {}, lambda what, share: None).after
    # A run that trains by steps sees other squares in each epoch.
    assert kept == {"sgd": None, "ridge": "stage1"}


def test_study_of_streamed_data_says_how_long_it_waited(
    config: Config, streamed: StreamedDataset, tmp_path: Path
) -> None:
    study = Study(epath.Path(tmp_path / "study"), Experiment("streamed", "Does it run?", {"only": config}), 1)
    write_study(study)
    run_study(study, study.units, {config.data: streamed}, Console(file=io.StringIO()), Interruption())
    status = read_status(study.units[0])
    assert status["state"] == "finished"
    assert 0 < status["seconds"]["data_wait"] <= status["seconds"]["train"]
    (line,) = waiting(collect(study))
    share = status["seconds"]["data_wait"] / status["seconds"]["train"]
    assert line == f"the devices waited for data for {share:.0%} of the training"
