"""Running a sweep, on planted runs: every search, what the best trial alone may read, and going on after a signal."""

import dataclasses
import io
import json
import math
import types
from pathlib import Path
from typing import Any

import jax
import pytest
from etils import epath
from rich.console import Console

from cnnjax.config import Config, DataConfig, FilterRule, ModelConfig, RequestError, StudyConfig, TrainConfig
from cnnjax.data.dataset import DataSummary
from cnnjax.study.engine import open_engine
from cnnjax.study.experiment import Experiment
from cnnjax.study.request import EngineFlags, SweepFlags
from cnnjax.study.sweep import running
from cnnjax.study.sweep.ranking import best_trial, standings
from cnnjax.study.sweep.request import read_sweep
from cnnjax.study.sweep.running import Means, run_sweep
from cnnjax.study.sweep.tpe import import_optuna
from cnnjax.study.workdir import Study, open_study, read_status, read_study, write_study
from cnnjax.train.interruption import Interruption, Stopped
from tests.planted_runs import PlantedRuns, arms_tested, best_at_a_tenth, plant

CONFIG = Config(
    model=ModelConfig(name="convnet", width=16),
    train=TrainConfig(epochs=9),
    study=StudyConfig(seeds=1, slots=4, eta=3, min_epochs=1),
)


SUMMARY = DataSummary(
    "noise", (28, 28, 1), 10, (128.0,), (74.0,), 0.0, 255.0, dict.fromkeys(("train", "validation", "test"), 1000)
)


def opened(
    folder: Path, *specs: str, arms: dict[str, Config] | None = None, seeds: int = 1, **flags: Any
) -> tuple[Study, str | None]:
    """The study that these flags ask for, new or to go on with, and the storage that they name."""
    section = dataclasses.replace(CONFIG.study, seeds=seeds)
    configs = {arm: dataclasses.replace(config, study=section) for arm, config in (arms or {"learned": CONFIG}).items()}
    given = SweepFlags(specs, **flags)
    experiment = Experiment("question", "Why?", configs)
    where = epath.Path(folder)
    return open_study(where, experiment, read_sweep(given, experiment, where)), given.storage


def sweep(folder: Path, *specs: str, **flags: Any) -> tuple[Study, str]:
    """Runs it, and returns it with what was printed."""
    study, storage = opened(folder, *specs, **flags)
    write_study(study)
    text = io.StringIO()
    console = Console(file=text, width=200)
    shared = storage and running.open_storage(storage, shared=True)
    datasets: Any = {DataConfig(): types.SimpleNamespace(summary=SUMMARY)}
    means = Means(datasets, open_engine(EngineFlags(), study.folder), shared, console, Interruption())
    return run_sweep(study, means), text.getvalue()


GRID = ("optim.lr=0.001,0.01,0.1,1", "model.width=8,16")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> PlantedRuns:
    return plant(monkeypatch, PlantedRuns())


def test_grid_is_run_at_once_and_the_best_alone_is_arms_tested(tmp_path: Path, runs: PlantedRuns) -> None:
    study, said = sweep(tmp_path / "w", *GRID, seeds=2)
    (trials, until, test), (best, *at_end) = runs.calls
    assert (len(trials), until, test) == (16, None, False)
    assert (best, at_end) == (["learned,lr=0.1,width=16/0", "learned,lr=0.1,width=16/1"], [None, True])
    assert arms_tested(tmp_path / "w") == ["learned,lr=0.1,width=16"] * 2
    assert study.sweep and study.sweep.complete and read_study(study.folder) == study
    assert said.splitlines() == [f"{number} of 16 runs to do in {tmp_path / 'w'}" for number in (16, 2)]


def test_best_is_by_validation_whatever_the_test_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, PlantedRuns(lambda config, epoch: 1 - best_at_a_tenth(config, epoch)))
    study, _ = sweep(tmp_path / "w", *GRID)
    assert best_trial(study, "learned") == "learned,lr=0.001,width=8"
    assert arms_tested(tmp_path / "w") == ["learned,lr=0.001,width=8"]


def test_arms_that_are_not_swept_come_first(tmp_path: Path, runs: PlantedRuns) -> None:
    arms = {"taker": dataclasses.replace(CONFIG, filters=(FilterRule(".*", "arm:giver"),)), "giver": CONFIG}
    sweep(tmp_path / "w", "taker/optim.lr=0.01,0.1", arms=arms)
    assert runs.calls == [
        (["giver/0"], None, True),
        (["taker,lr=0.01/0", "taker,lr=0.1/0"], None, False),
        (["taker,lr=0.1/0"], None, True),
    ]


def test_each_swept_arm_has_its_best(tmp_path: Path, runs: PlantedRuns) -> None:
    arms = {"wide": CONFIG, "narrow": dataclasses.replace(CONFIG, model=ModelConfig(width=8))}
    sweep(tmp_path / "w", "optim.lr=0.01,0.1", "narrow/optim.lr=0.01,1", arms=arms)
    assert sorted(runs.calls[-1][0]) == ["narrow,lr=0.01/0", "wide,lr=0.1/0"]


def test_hyperparameters_are_there_before_a_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, PlantedRuns(stop_after=0))
    with pytest.raises(Stopped):
        sweep(tmp_path / "w", "optim.lr=0.01,0.1", "model.act=relu,tanh")
    values = json.loads((tmp_path / "w/runs/learned,lr=0.1,act=tanh/seed0/hparams.json").read_text())
    assert values == {"arm": "learned", "seed": 0, "optim.lr": 0.1, "model.act": "tanh"}


HALVING: dict[str, Any] = {"search": "halving", "trials": 9}


def test_halving_climbs_its_rungs(tmp_path: Path, runs: PlantedRuns) -> None:
    study, said = sweep(tmp_path / "w", "optim.lr=log:1e-4:1", **HALVING)
    assert [(len(units), until, test) for units, until, test in runs.calls] == [
        (4, 1.0, False),
        (4, 1.0, False),
        (1, 1.0, False),
        (3, 3.0, False),
        (1, None, False),
        (1, None, True),
    ]
    # Nine trials climb one epoch, three of them two more, one of those six: in runs as long as each call's own.
    assert runs.later == [9 - 4 + 6 + 6, 9 - 8 + 6 + 6, 6 + 6, 3, 0, 0]
    ranked = standings(study, "learned")
    assert [standing.epochs for standing in ranked] == [9, 3, 3, *[1] * 6]
    assert [standing.state for standing in ranked] == ["finished", *["paused"] * 8]
    away = [abs(math.log10(float(standing.trial.point["optim.lr"])) + 1) for standing in ranked]
    assert away[0] == min(away) and away[1:3] == sorted(away)[1:3] and away[3:] == sorted(away[3:])
    assert "4 of 9 runs to do in" in said and ", up to epoch 3" in said


def test_halving_takes_the_same_rung_of_all_arms_together(tmp_path: Path, runs: PlantedRuns) -> None:
    arms = {"a": CONFIG, "b": CONFIG}
    sweep(tmp_path / "w", "optim.lr=log:1e-4:1", arms=arms, seeds=2, search="halving", trials=3)
    assert [(len(units), until) for units, until, _ in runs.calls] == [(12, 1), (4, 3), (4, None), (4, None)]


def test_halving_waits_for_the_arm_that_is_behind(tmp_path: Path, runs: PlantedRuns) -> None:
    arms = {"short": dataclasses.replace(CONFIG, train=TrainConfig(epochs=4)), "long": CONFIG}
    sweep(tmp_path / "w", "optim.lr=log:1e-4:1", arms=arms, search="halving", trials=3)
    assert [(len(units), until) for units, until, _ in runs.calls] == [(6, 1), (1, 3), (2, None), (2, None)]


def test_halving_gives_the_seeds_alone_that_are_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, PlantedRuns(stop_after=3))
    with pytest.raises(Stopped):
        sweep(tmp_path / "w", "optim.lr=0.1,0.01,0.001", seeds=2, search="halving")
    runs = plant(monkeypatch, PlantedRuns())
    sweep(tmp_path / "w", "optim.lr=0.1,0.01,0.001", seeds=2, search="halving")
    assert runs.calls[0][0] == ["learned,lr=0.01/1", "learned,lr=0.001/0", "learned,lr=0.001/1"]


def test_trial_that_diverges_stops_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def objective(config: Config, epoch: float) -> float:
        return math.nan if config.optim.lr == 0.1 and epoch > 2 else best_at_a_tenth(config, epoch)

    plant(monkeypatch, PlantedRuns(objective))
    study, _ = sweep(tmp_path / "w", "optim.lr=0.0001,0.001,0.01,0.1,1,2,3,4,5", search="halving")
    ranked = {standing.name: standing for standing in standings(study, "learned")}
    assert ranked["learned,lr=0.1"].state == "diverged" and list(ranked)[-1] == "learned,lr=0.1"
    assert ranked["learned,lr=0.1"].validation.seeds == 0
    assert arms_tested(tmp_path / "w") == [next(iter(ranked))]


def calls_in_all(folder: Path, monkeypatch: pytest.MonkeyPatch, *specs: str, **flags: Any) -> tuple[Study, list[Any]]:
    """The sweep, stopped after every second run until it comes to its end, and all runs as they were given."""
    given = []
    for _ in range(100):
        runs = plant(monkeypatch, PlantedRuns(stop_after=2))
        try:
            study, _ = sweep(folder, *specs, **flags)
            return study, given
        except Stopped:
            given += runs.calls
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize(
    ("specs", "flags"),
    [
        (GRID, {}),
        (("optim.lr=log:1e-4:1",), {"search": "sobol", "trials": 5}),
        (("optim.lr=log:1e-4:1",), HALVING),
        pytest.param(("optim.lr=log:1e-4:1",), {"search": "tpe", "trials": 6}, marks=pytest.mark.slow),
    ],
)
def test_stopped_sweep_goes_on_where_it_was(
    specs: tuple[str, ...], flags: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped, _ = calls_in_all(tmp_path / "stopped", monkeypatch, *specs, **flags)
    plant(monkeypatch, PlantedRuns())
    untouched, _ = sweep(tmp_path / "untouched", *specs, **flags)
    assert stopped.sweep == untouched.sweep
    assert arms_tested(tmp_path / "stopped") == arms_tested(tmp_path / "untouched")
    assert standings(stopped, "learned") == standings(untouched, "learned")


def test_complete_sweep_runs_nothing(tmp_path: Path, runs: PlantedRuns) -> None:
    for search in (HALVING, {}):
        specs = GRID if not search else ("optim.lr=log:1e-4:1",)
        first, _ = sweep(tmp_path / str(len(search)), *specs, **search)
        runs.calls.clear()
        assert sweep(tmp_path / str(len(search)), *specs, **search) == (first, "")
        assert runs.calls == []


def test_failed_run_of_a_grid_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(PlantedRuns):
        def run(self, unit: Any, config: Config, until: float | None, test: bool) -> None:
            super().run(unit, config, until, test)
            if config.optim.lr == 0.1:
                (unit.folder / "status.json").write_text(json.dumps({"state": "failed", "error": "no memory"}))

    plant(monkeypatch, Failing())
    study, _ = sweep(tmp_path / "w", "optim.lr=0.01,0.1")
    assert study.sweep and not study.sweep.complete
    assert arms_tested(tmp_path / "w") == ["learned,lr=0.01"]
    runs = plant(monkeypatch, PlantedRuns())
    study, _ = sweep(tmp_path / "w", "optim.lr=0.01,0.1")
    assert [units for units, *_ in runs.calls] == [["learned,lr=0.1/0"]] * 2
    assert study.sweep and study.sweep.complete


def test_failed_trial_of_a_halving_is_tried_once_more_in_each_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(PlantedRuns):
        def run(self, unit: Any, config: Config, until: float | None, test: bool) -> None:
            fails = config.optim.lr == 0.1 and until != 1
            super().run(unit, config, 1 if fails else until, test)
            if fails:
                (unit.folder / "status.json").write_text(json.dumps({"state": "failed", "error": "no memory"}))

    specs, best = "optim.lr=0.0001,0.001,0.01,0.1,1,2,3,4,5", ["learned,lr=0.1/0"]
    plant(monkeypatch, Failing())
    study, _ = sweep(tmp_path / "w", specs, search="halving")
    assert study.sweep and not study.sweep.complete
    runs = plant(monkeypatch, Failing())
    study, _ = sweep(tmp_path / "w", specs, search="halving")
    assert [(units, until) for units, until, _ in runs.calls] == [(best, 3)]
    assert study.sweep and not study.sweep.complete
    runs = plant(monkeypatch, PlantedRuns())
    study, _ = sweep(tmp_path / "w", specs, search="halving")
    assert [(units, until) for units, until, _ in runs.calls] == [(best, 3), (best, None), (best, None)]
    assert study.sweep and study.sweep.complete


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Optuna's trials, for this test, without a file."""
    storage = import_optuna().storages.InMemoryStorage()
    monkeypatch.setattr(running, "open_storage", lambda url, shared: storage)
    return storage


@pytest.mark.usefixtures("in_memory")
def test_tpe_asks_for_as_many_as_there_are_slots(tmp_path: Path, runs: PlantedRuns) -> None:
    study, _ = sweep(tmp_path / "w", "optim.lr=log:1e-4:1", search="tpe", trials=10)
    assert [len(units) for units, *_ in runs.calls] == [4, 4, 2, 1]
    assert runs.later == [6, 2, 0, 0]
    assert study.sweep and len(study.sweep.trials) == 10 and study.sweep.complete
    assert list(study.experiment.arms) == list(study.sweep.trials)
    assert arms_tested(tmp_path / "w") == [best_trial(study, "learned")]


@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize("flags", [{"search": "random", "trials": 5}, HALVING, {"search": "tpe", "trials": 5}])
def test_best_trial_that_was_killed_while_it_read_the_test_split(
    flags: dict[str, Any], tmp_path: Path, runs: PlantedRuns
) -> None:
    study, _ = sweep(tmp_path / "w", "optim.lr=log:1e-4:1", **flags)
    (best,) = arms_tested(tmp_path / "w")
    assert study.sweep is not None
    write_study(dataclasses.replace(study, sweep=dataclasses.replace(study.sweep, complete=False)))
    (tmp_path / "w" / "runs" / best / "seed0" / "status.json").write_text('{"state": "running"}')
    assert sweep(tmp_path / "w", "optim.lr=log:1e-4:1", **flags)[0] == study
    assert arms_tested(tmp_path / "w") == [best]


@pytest.mark.usefixtures("in_memory")
def test_tpe_trains_the_same_point_once(tmp_path: Path, runs: PlantedRuns) -> None:
    study, _ = sweep(tmp_path / "w", "model.width=8,16", search="tpe", trials=8)
    assert sorted(unit for units, *_ in runs.calls[:-1] for unit in units) == [
        "learned,width=16/0",
        "learned,width=8/0",
    ]
    assert study.sweep and study.sweep.complete


def told_values(storage: Any) -> dict[str, tuple[str, float | None]]:
    """State and value of each trial in a storage, by the value of the one field that is swept."""
    optuna = import_optuna()
    (name,) = optuna.study.get_all_study_names(storage)
    told = optuna.load_study(study_name=name, storage=storage).trials
    return {str(*trial.params.values()): (trial.state.name, trial.value) for trial in told}


def test_tpe_is_told_of_what_diverges_and_of_what_has_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: Any
) -> None:
    def load(config: DataConfig) -> None:
        raise RequestError("config.data.name: no such data set")

    monkeypatch.setattr("cnnjax.study.runner.open_dataset", load)
    plant(monkeypatch, PlantedRuns(lambda config, _: math.nan))
    study, _ = sweep(tmp_path / "w", "data.shuffled=true,false", search="tpe", trials=8)
    states = {unit.arm: read_status(unit)["state"] for unit in study.units}
    assert states == {"learned,shuffled=true": "failed", "learned,shuffled=false": "diverged"}
    assert told_values(in_memory) == {"true": ("FAIL", None), "false": ("COMPLETE", 0.0)}
    assert arms_tested(tmp_path / "w") == []


def test_tpe_trial_that_cannot_be_run_fails_with_its_reason(tmp_path: Path, runs: PlantedRuns, in_memory: Any) -> None:
    study, said = sweep(tmp_path / "w", "train.accumulate=1,2,3", seeds=2, search="tpe", trials=12)
    why = f"config.train.batch_size: {jax.device_count()} devices of 3 parts do not divide a batch of"
    for unit in study.units:
        status = read_status(unit)
        assert status["error"].startswith(why) if unit.arm.endswith("=3") else status["state"] == "finished"
    assert f"learned,accumulate=3: cannot be run: {why}" in said
    assert told_values(in_memory)["3"] == ("FAIL", None) and told_values(in_memory)["2"][0] == "COMPLETE"
    assert not any("accumulate=3" in run for units, *_ in runs.calls for run in units)
    assert study.sweep and not study.sweep.complete


@pytest.mark.usefixtures("in_memory")
def test_launchers_of_other_configs_have_trials_of_their_own(tmp_path: Path, runs: PlantedRuns) -> None:
    flags: dict[str, Any] = {"search": "tpe", "trials": 4, "storage": "postgresql://host/trials"}
    for width in (8, 16):
        arms = {"learned": dataclasses.replace(CONFIG, model=ModelConfig(name="convnet", width=width))}
        study, _ = sweep(tmp_path / str(width), "optim.lr=log:1e-4:1", arms=arms, **flags)
        assert study.sweep and len(study.sweep.trials) == 4
        assert len(arms_tested(tmp_path / str(width))) == 1


@pytest.mark.usefixtures("in_memory")
def test_launchers_that_share_a_storage_test_one_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags: dict[str, Any] = {"search": "tpe", "trials": 8, "storage": "postgresql://host/trials"}
    plant(monkeypatch, PlantedRuns(stop_after=2))
    with pytest.raises(Stopped):
        sweep(tmp_path / "here", "optim.lr=log:1e-4:1", **flags)
    plant(monkeypatch, PlantedRuns(lambda config, epoch: best_at_a_tenth(config, epoch) / 2))
    study, said = sweep(tmp_path / "there", "optim.lr=log:1e-4:1", **flags)
    assert "learned: other launchers are training 4 trials; run this again when they are done" in said
    assert study.sweep and len(study.sweep.trials) == 4 and not study.sweep.complete
    plant(monkeypatch, PlantedRuns())
    study, _ = sweep(tmp_path / "here", "optim.lr=log:1e-4:1", **flags)
    assert study.sweep and len(study.sweep.trials) == 4 and study.sweep.complete
    _, said = sweep(tmp_path / "there", "optim.lr=log:1e-4:1", **flags)
    assert f"learned: the best trial is in {tmp_path / 'here'}, which reads the test split" in said
    assert (len(arms_tested(tmp_path / "here")), len(arms_tested(tmp_path / "there"))) == (1, 0)
