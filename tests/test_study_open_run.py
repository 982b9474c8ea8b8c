"""How far a run is taken that is wanted up to an epoch alone."""

import dataclasses
import io
from pathlib import Path

import pytest
from etils import epath
from rich.console import Console

from cnnjax.config import Config, TrainConfig
from cnnjax.data.dataset import Dataset
from cnnjax.study.experiment import Experiment
from cnnjax.study.run import Extent
from cnnjax.study.runner import run_study
from cnnjax.study.workdir import Study, read_status
from cnnjax.train.interruption import Interruption


@pytest.mark.parametrize(("until", "step"), [(0.5, 2), (1.5, 8)])
def test_run_is_paused_at_the_nearest_evaluation(
    tmp_path: Path, toy: Dataset, linear_config: Config, until: float, step: int
) -> None:
    # Five steps to an epoch: evaluated after 2 in the place of 2.5, after 5, after 8 in the place of 7.5.
    train = TrainConfig(epochs=2, eval_every=0.5, batch_size=10, eval_batch_size=10, save_every=1e9)
    config = dataclasses.replace(linear_config, train=train)
    study = Study(epath.Path(tmp_path), Experiment("question", "Why?", {"linear": config}), 1)
    console = Console(file=io.StringIO())
    run_study(study, study.units, {config.data: toy}, console, Interruption(), Extent(until, test=False))
    status = read_status(study.units[0])
    assert (status["state"], status["step"], status["steps"]) == ("paused", step, 10)
