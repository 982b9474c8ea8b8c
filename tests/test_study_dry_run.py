"""What a dry run foresees, by hand-counted networks, and that it writes nothing."""

import dataclasses
import math
from pathlib import Path

import pytest
from etils import epath

from cnnjax.config import Config, DataConfig, HeadConfig, ModelConfig, TrainConfig, override
from cnnjax.data.dataset import load_dataset
from cnnjax.study.dry_run import Work, foreseen_seconds, work_of
from cnnjax.study.experiment import Experiment
from cnnjax.study.files import write_json
from cnnjax.study.packs import Pack
from cnnjax.study.workdir import Study, Unit
from cnnjax.train.packing import Gain
from launch import main
from tests.launching import EXPERIMENT

DATA = DataConfig(name="digits_8x8")
SUMMARY = load_dataset(DATA).summary
LINEAR = Config(model=ModelConfig(name="logistic"), data=DATA, train=TrainConfig(batch_size=32, epochs=2, eval_every=1))
FROZEN = override(
    dataclasses.replace(LINEAR, model=ModelConfig(name="convnet", width=4, depth=1, kernel_size=3)),
    {"filters": "stage1/.*=gaussian,frozen;head/.*=init,trained"},
)


def sizes() -> tuple[int, int, int]:
    return SUMMARY.sizes["train"], SUMMARY.sizes["validation"], SUMMARY.sizes["test"]


def test_work_of_a_linear_classifier() -> None:
    train, validation, test = sizes()
    steps, weights = 2 * (train // 32), 64 * 10
    expected = steps * 3 * 32 * weights + (2 * validation + test) * weights
    assert work_of(LINEAR, load_dataset(DATA)) == Work(steps, 3 * 32 * weights, expected)


def test_frozen_stage_is_passed_once_by_all_examples() -> None:
    train, validation, test = sizes()
    # 8 x 8 positions of 4 filters of 3 x 3; pooled to 4 x 4, and ten classes above them.
    below, weights, steps = 8 * 8 * 4 * 9, 4 * 4 * 4 * 10, 2 * (train // 32)
    found = work_of(FROZEN, load_dataset(DATA))
    assert found.step == 3 * 32 * weights
    assert found.all == steps * found.step + (2 * validation + test) * weights + sum(sizes()) * below
    ridge = dataclasses.replace(FROZEN, head=HeadConfig(name="ridge"))
    assert work_of(ridge, load_dataset(DATA)) == Work(0, 0, sum(sizes()) * below)


def test_time_is_that_of_finished_runs_or_of_a_small_network_s_pace(tmp_path: Path) -> None:
    arms = {"known": LINEAR, "new": LINEAR}
    study = Study(epath.Path(tmp_path), Experiment("question", "Why?", arms), seeds=3)
    ended = Unit("known", 0, epath.Path(tmp_path / "runs/known/seed0"))
    ended.folder.mkdir(parents=True)
    finished = {"state": "finished", "metrics": {}, "parameters": 1, "parameters_trained": 1, "features": 1}
    seconds = {"train": 5.0, "compilation": 2.0, "data_wait": 1.5}
    write_json(ended.folder / "status.json", {**finished, "best_step": 1, "seconds": seconds})
    gains, work = [Gain(1000, "map", 4.0, 0.01)], Work(10, 1000, 20_000)
    unit = {(unit.arm, unit.seed): unit for unit in study.units}
    assert foreseen_seconds(study, Pack((unit["known", 1],)), [work], gains) == 7
    assert foreseen_seconds(study, Pack((unit["new", 0],)), [work], gains) == pytest.approx(0.2)
    together = Pack((unit["new", 0], unit["new", 1]), "map", 2)
    assert foreseen_seconds(study, together, [work] * 2, gains) == pytest.approx(0.1)
    assert foreseen_seconds(study, Pack((unit["known", 1],)), [work], []) == 7
    assert math.isnan(foreseen_seconds(study, Pack((unit["new", 0],)), [work], []))


def test_pace_is_that_of_the_largest_network_that_was_measured(tmp_path: Path) -> None:
    study = Study(epath.Path(tmp_path), Experiment("question", "Why?", {"new": LINEAR}), seeds=1)
    gains = [Gain(1000, "map", 4.0, 0.01), Gain(16_000, "map", 1.5, 0.02)]
    work = Work(10, 16_000, 160_000)
    assert foreseen_seconds(study, Pack(tuple(study.units)), [work], gains) == pytest.approx(0.2)


def test_dry_run_lists_what_would_be_done_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--config={EXPERIMENT}", f"--workdir={tmp_path / 'w'}", "--seeds=2", "--config.study.pack=2", "--dry_run"]
    assert main(["launch.py", *flags]) == 0
    out = capsys.readouterr().out
    assert "4 of 4 runs to do" in out
    assert "learned seeds 0, 1" in out and "frozen seeds 0, 1" in out and out.count("2 together (map)") == 2
    assert "156" in out  # steps: 4 epochs of 39
    assert "in all, one after another" in out
    assert not (tmp_path / "w").exists()
