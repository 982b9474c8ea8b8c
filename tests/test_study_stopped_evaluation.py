"""A run that a signal stops in an evaluation, and again right behind it, ends as one that was never touched."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from etils import epath
from rich.console import Console

import cnnjax
from cnnjax.config import Config, DataConfig, OptimConfig, StudyConfig
from cnnjax.data.dataset import Dataset
from cnnjax.study.experiment import Experiment
from cnnjax.study.open_run import OpenRun
from cnnjax.study.runner import run_study
from cnnjax.study.workdir import Study
from cnnjax.train import loop
from cnnjax.train.checkpoint import fingerprint
from cnnjax.train.interruption import Interruption, Stopped


def study_in(folder: Path, linear_config: Config) -> Study:
    slow = OptimConfig(name="sgd", lr=0.001, schedule="constant")  # so that the last evaluation is the best
    config = dataclasses.replace(linear_config, data=DataConfig("toy"), optim=slow, study=StudyConfig(pack=1))
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=3))
    return Study(epath.Path(folder), Experiment("stopped", "Where?", {"only": config}), 1)


def train(study: Study, toy: Dataset, interruption: Interruption) -> None:
    config = study.experiment.arms["only"]
    run_study(study, study.units, {config.data: toy}, Console(file=io.StringIO()), interruption)


def outcome(study: Study) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """The metrics, the status and the parameters that are loaded, times aside."""
    folder = study.units[0].folder
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    status = json.loads((folder / "status.json").read_text())
    timed = ("seconds", "speed")
    return (
        [{name: value for name, value in row.items() if name not in timed} for row in rows],
        {name: value for name, value in status.items() if name not in timed},
        fingerprint(cnnjax.load(str(folder)).variables),
    )


@pytest.fixture(scope="module")
def undisturbed(linear_config: Config, toy: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Any:
    study = study_in(tmp_path_factory.mktemp("undisturbed"), linear_config)
    train(study, toy, Interruption())
    found = outcome(study)
    assert found[1]["best_step"] == 18
    return found


@pytest.mark.parametrize("boundary", [1, 2, 3])
@pytest.mark.parametrize("then", ["stopped behind it", "killed behind it"])
def test_ends_as_if_untouched(
    boundary: int,
    then: str,
    undisturbed: Any,
    linear_config: Config,
    toy: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, evaluate, save = study_in(tmp_path, linear_config), loop.evaluate, OpenRun.save
    calls: list[int] = []

    def train_until(stopped: str) -> None:
        interruption = Interruption()

        def evaluate_and_stop(*arguments: Any) -> Any:
            calls.append(1)
            if stopped == "stopped in it" and len(calls) == boundary:
                interruption.receive(15)
            sums = evaluate(*arguments)
            if stopped.endswith("behind it"):
                interruption.receive(15)
            return sums

        def save_or_die(*arguments: Any) -> None:
            if stopped == "killed behind it":
                raise SystemExit
            save(*arguments)

        monkeypatch.setattr(loop, "evaluate", evaluate_and_stop)
        monkeypatch.setattr(OpenRun, "save", save_or_die)
        train(study, toy, interruption)

    with pytest.raises(Stopped):
        train_until("stopped in it")
    with pytest.raises((Stopped, SystemExit)):
        train_until(then)
    train_until("the end")
    assert outcome(study) == undisturbed
