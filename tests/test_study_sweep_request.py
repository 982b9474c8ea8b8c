"""What the command line asks of a sweep: the search that is meant, and one line for what does not go together."""

import dataclasses
import re
from typing import Any

import pytest
from etils import epath

from cnnjax.config import Config, HeadConfig, ModelConfig, RequestError, StudyConfig, TrainConfig
from cnnjax.study.experiment import Experiment
from cnnjax.study.request import SweepFlags
from cnnjax.study.sweep.request import read_sweep, to_check
from cnnjax.study.sweep.trials import Sweep
from cnnjax.study.workdir import Study

WIDE = Config(model=ModelConfig(width=16))
EXPERIMENT = Experiment("question", "Why?", {"wide": WIDE, "narrow": Config()})
LR = "optim.lr=log:1e-3:1"


def asked(*specs: str, experiment: Experiment = EXPERIMENT, folder: str = "w", **flags: Any) -> Sweep | None:
    return read_sweep(SweepFlags(specs, **flags), experiment, epath.Path(folder))


@pytest.mark.parametrize(
    ("specs", "flags", "search", "trials"),
    [
        (["optim.lr=1,2"], {}, "grid", 2),
        ([LR], {"trials": 3}, "random", 3),
        (["optim.lr=1,2,3,4"], {"trials": 3}, "random", 3),
        ([LR], {"trials": 4, "search": "sobol"}, "sobol", 4),
        ([LR], {"trials": 5, "search": "halving"}, "halving", 5),
        ([LR], {"trials": 5, "search": "tpe"}, "tpe", 0),
    ],
)
def test_search(specs: list[str], flags: dict[str, Any], search: str, trials: int) -> None:
    sweep = asked(*specs, **flags)
    assert sweep is not None
    assert (sweep.search, len(sweep.of_arm("wide")), sweep.owner) == (search, trials, "")


def test_nothing_is_swept() -> None:
    assert asked() is None


def changed(**sections: Any) -> Experiment:
    arms = {arm: dataclasses.replace(config, **sections) for arm, config in EXPERIMENT.arms.items()}
    return dataclasses.replace(EXPERIMENT, arms=arms)


WRONG: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "trials_of_nothing": ([], {"trials": 3}, "--trials=3: nothing is swept; give --sweep=FIELD=VALUES too"),
    "search_of_nothing": ([], {"search": "tpe"}, "--search=tpe: nothing is swept"),
    "storage_of_nothing": ([], {"storage": "x"}, "--storage=x: nothing is swept"),
    "trials_of_a_grid": (["optim.lr=1,2"], {"search": "grid", "trials": 3}, "--trials=3: a grid has as many"),
    "grid_of_a_range": ([LR], {}, "--sweep: optim.lr is a range: say how many of its values"),
    "halving_of_a_range": ([LR], {"search": "halving"}, "--sweep: optim.lr is a range"),
    "random": ([LR], {"search": "random"}, "--search=random: say how many trials, as in --trials=32"),
    "sobol": ([LR], {"search": "sobol"}, "--search=sobol: say how many trials"),
    "tpe": ([LR], {"search": "tpe"}, "--search=tpe: say how many trials"),
    "storage": ([LR], {"trials": 2, "storage": "x"}, "--storage=x: only --search=tpe keeps its trials in a storage"),
    "bucket": (
        [LR],
        {"search": "tpe", "trials": 2, "folder": "gs://b/w"},
        "--storage: not given; gs://b/w is no folder",
    ),
    "screening": (
        [LR],
        {"trials": 2, "experiment": dataclasses.replace(EXPERIMENT, screening={"x": ("wide", "narrow")})},
        "--sweep: question screens architectures; it is not swept",
    ),
    "rungs_of_epochs": (
        [LR, "train.epochs=2,9"],
        {"search": "halving", "trials": 2},
        "--search=halving: train.epochs cannot be swept: all trials of an arm have the same rungs",
    ),
    "rungs_of_a_head": (
        [LR],
        {"search": "halving", "trials": 2, "experiment": changed(head=HeadConfig(name="ridge"))},
        "--search=halving: wide finds its head at once (ridge); nothing can be stopped",
    ),
    "rungs_between_evaluations": (
        [LR],
        {"search": "halving", "trials": 2, "experiment": changed(train=TrainConfig(eval_every=2))},
        "config.study.min_epochs: should be a multiple of train.eval_every=2; given 1",
    ),
    "no_rungs": (
        [LR],
        {"search": "halving", "trials": 2, "experiment": changed(study=StudyConfig(min_epochs=5))},
        "config.study.min_epochs: 5 and 3 times as many are not within the 10 epochs of wide; there is nothing to stop",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_request(name: str) -> None:
    specs, flags, message = WRONG[name]
    with pytest.raises(RequestError, match=re.escape(message)) as raised:
        asked(*specs, **flags)
    assert "\n" not in str(raised.value)


def test_rungs_of_tenths_are_at_evaluations() -> None:
    train, study = TrainConfig(epochs=0.9, eval_every=0.1), StudyConfig(min_epochs=0.3)
    assert asked(LR, search="halving", trials=2, experiment=changed(train=train, study=study)) is not None


def test_trials_that_are_not_known_are_checked_by_their_values() -> None:
    sweep = asked(LR, "wide/model.act=relu,tanh", trials=4, search="tpe")
    study = Study(epath.Path("w"), EXPERIMENT, 2, {}, sweep=sweep)
    shown, units = to_check(study, [])
    assert [unit.arm for unit in units] == [
        *("wide", "narrow", "wide,optim.lr=0.001", "wide,optim.lr=1.0"),
        *("wide,model.act=relu", "wide,model.act=tanh", "narrow,optim.lr=0.001", "narrow,optim.lr=1.0"),
    ]
    config = shown.experiment.arms["wide,model.act=tanh"]
    assert (config.model.act, config.model.width, config.optim.lr) == ("tanh", 16, Config().optim.lr)


def test_trials_that_were_asked_for_before_are_not_checked_with_the_request() -> None:
    sweep = asked(LR, trials=4, search="tpe")
    assert sweep is not None
    begun = sweep.with_trials("wide", [{"optim.lr": 0.1}])
    studies = [Study(epath.Path("w"), EXPERIMENT, 2, {}, sweep=each) for each in (sweep, begun)]
    checked = [[unit.arm for unit in to_check(study, study.units)[1]] for study in studies]
    assert checked[0] == checked[1]


def test_trials_that_are_known_are_checked_themselves() -> None:
    sweep = asked("optim.lr=1,2")
    assert sweep is not None
    study = Study(epath.Path("w"), dataclasses.replace(EXPERIMENT, arms=sweep.arms), 2, {}, sweep=sweep)
    assert to_check(study, study.units[:3]) == (study, study.units[:3])
