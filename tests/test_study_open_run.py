"""How far a run is taken that is wanted up to an epoch alone; the place in streamed data that it goes on from, and data
that are not those it began with."""

import dataclasses
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from etils import epath
from rich.console import Console

from cnnjax.config import Config, ModelConfig, StudyConfig, TrainConfig
from cnnjax.data.dataset import Dataset
from cnnjax.data.streamed import AnyDataset, StreamedDataset, open_dataset
from cnnjax.study.experiment import Experiment
from cnnjax.study.run import WHOLE, Extent
from cnnjax.study.runner import run_study
from cnnjax.study.workdir import Study, read_status
from cnnjax.train.interruption import Interruption
from tests.launching import newest_step
from tests.prepared_sets import Examples, encoded, prepare

AGAIN = "; remove its folder to run it again"


@pytest.mark.parametrize(("until", "step"), [(0.5, 2), (1.5, 8)])
def test_run_is_paused_at_the_nearest_evaluation(
    tmp_path: Path, toy: Dataset, linear_config: Config, until: float, step: int
) -> None:
    # Five steps to an epoch: evaluated after 2 in the place of 2.5, after 5, after 8 in the place of 7.5.
    train = TrainConfig(epochs=2, eval_every=0.5, batch_size=10, eval_batch_size=10, save_every=1e9)
    config = dataclasses.replace(linear_config, train=train)
    status = go_on(tmp_path, config, toy, Extent(until, test=False))
    assert (status["state"], status["step"], status["steps"]) == ("paused", step, 10)


def config_of(folder: Path, train: Examples) -> Config:
    """Of six steps an epoch on the set, prepared in the folder whatever was there; 48 examples, 36 to train on."""
    shutil.rmtree(folder, ignore_errors=True)
    data = dataclasses.replace(prepare(folder, {"train": train, "test": encoded(48, 60)}), streamed="always", workers=0)
    return Config(
        model=ModelConfig(name="logistic"),
        data=data,
        train=TrainConfig(epochs=2, batch_size=6, eval_batch_size=6, save_every=1e9),
        study=StudyConfig(seeds=1, pack=1),
    )


def go_on(folder: Path, config: Config, dataset: AnyDataset, extent: Extent = WHOLE) -> dict[str, Any]:
    """The status of a run that is begun, or gone on with, so far."""
    study = Study(epath.Path(folder), Experiment("question", "Why?", {"only": config}), 1)
    run_study(study, study.units, {config.data: dataset}, Console(file=io.StringIO()), Interruption(), extent)
    return read_status(study.units[0])


@pytest.fixture
def paused(tmp_path: Path) -> Path:
    """The folder of a study whose run was paused after an epoch."""
    config = config_of(tmp_path / "data", encoded(0, 48))
    assert go_on(tmp_path / "study", config, open_dataset(config.data), Extent(until=1))["state"] == "paused"
    return tmp_path / "study"


def other_labels() -> Examples:
    return [{**example, "label": (example["label"] + 1) % 3} for example in encoded(0, 48)]


def test_place_in_the_data_is_saved(paused: Path) -> None:
    run = paused / "runs" / "only" / "seed0"
    assert newest_step(run) == 6
    saved = json.loads((run / "checkpoints" / "6" / "progress" / "metadata").read_text())["progress"]["data"]
    assert {**saved, "contents": ""} == {
        "step": 6, "name": "small", "examples": 36, "image_size": 0, "contents": "", "batch_size": 6, "seed": 0
    }  # fmt: skip


def test_set_prepared_anew_with_the_same_examples_is_gone_on_with(paused: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path / "data", encoded(0, 48))
    assert go_on(paused, config, open_dataset(config.data))["state"] == "finished"


@pytest.mark.parametrize(
    ("examples", "what"),
    [
        (encoded(0, 44), "examples 36 of its data; now 32"),
        (other_labels(), "contents '[0-9a-f]{16}' of its data; now '[0-9a-f]{16}'"),
        (encoded(6, 54), "contents '[0-9a-f]{16}' of its data; now '[0-9a-f]{16}'"),
    ],
    ids=["fewer", "other labels", "other images"],
)
def test_set_prepared_anew_with_other_examples_is_refused(
    examples: Examples, what: str, paused: Path, tmp_path: Path
) -> None:
    config = config_of(tmp_path / "data", examples)
    status = go_on(paused, config, open_dataset(config.data))
    assert status["state"] == "failed"
    line = f"RequestError: config.data: the run was saved with {what}{AGAIN}"
    assert re.fullmatch(line, status["error"])


@pytest.mark.parametrize("first", ["in memory", "streamed"])
def test_data_that_are_streamed_now_or_were_are_refused(first: str, tmp_path: Path) -> None:
    config = config_of(tmp_path / "data", encoded(0, 48))
    streamed = open_dataset(config.data)
    assert isinstance(streamed, StreamedDataset)
    both: dict[str, AnyDataset] = {
        "streamed": streamed, "in memory": open_dataset(dataclasses.replace(config.data, streamed="never"))
    }  # fmt: skip
    (second,) = both.keys() - {first}
    assert go_on(tmp_path / "study", config, both[first], Extent(until=1))["state"] == "paused"
    line = f"RequestError: config.data: the run was saved with its data {first}; now they are {second}{AGAIN}"
    assert go_on(tmp_path / "study", config, both[second])["error"] == line
