"""What the command line asks of a sweep, checked before anything is written."""

import dataclasses
import math
import uuid

from etils import epath

from cnnjax.config import Config, RequestError, choose, override
from cnnjax.study.experiment import Experiment
from cnnjax.study.request import SweepFlags
from cnnjax.study.sweep.halving import rungs
from cnnjax.study.sweep.tpe import import_optuna
from cnnjax.study.sweep.trials import SEARCHES, Sweep, plan_sweep
from cnnjax.study.workdir import Study, Unit


def read_sweep(flags: SweepFlags, experiment: Experiment, folder: epath.Path) -> Sweep | None:
    """The sweep that is asked for, with the trials that are known beforehand; None if nothing is swept.

    Raises:
      RequestError: for flags that do not go together, a wrong spec, or an arm that the search is not for.
    """
    given = {"search": flags.search, "trials": flags.trials, "storage": flags.storage}
    if not flags.specs:
        for name, value in given.items():
            if value is not None:
                raise RequestError(f"--{name}={value}: nothing is swept; give --sweep=FIELD=VALUES too")
        return None
    how = flags.search or ("grid" if flags.trials is None else "random")
    choose(SEARCHES, how, "--search")
    if how == "grid" and flags.trials is not None:
        raise RequestError(f"--trials={flags.trials}: a grid has as many as its values make; leave it out")
    if how in ("random", "sobol", "tpe") and flags.trials is None:
        raise RequestError(f"--search={how}: say how many trials, as in --trials=32")
    if experiment.screening:
        raise RequestError(f"--sweep: {experiment.name} screens architectures; it is not swept")
    owner = uuid.uuid4().hex if flags.storage is not None else ""
    sweep = Sweep(flags.specs, how, flags.trials, experiment.arms, owner)
    if how == "halving":
        for arm in sweep.dimensions:
            _check_halving(arm, sweep, experiment)
    _check_storage(flags.storage, how, folder)
    return plan_sweep(sweep)


def _check_halving(arm: str, sweep: Sweep, experiment: Experiment) -> None:
    config, study = sweep.bases[arm], experiment.study
    fixed = ("train.epochs", "train.eval_every", "head.name")
    if swept := [dimension.field for dimension in sweep.dimensions[arm] if dimension.field in fixed]:
        raise RequestError(f"--search=halving: {swept[0]} cannot be swept: all trials of an arm have the same rungs")
    if config.head.name != "sgd":
        raise RequestError(
            f"--search=halving: {arm} finds its head at once ({config.head.name}); nothing can be stopped"
        )
    least, every = study.min_epochs, config.train.eval_every
    between = least / every
    if not math.isclose(between, round(between)):
        raise RequestError(
            f"config.study.min_epochs: should be a multiple of train.eval_every={every:g}; given {least:g}"
        )
    if len(rungs(config.train.epochs, least, study.eta)) == 1:
        raise RequestError(
            f"config.study.min_epochs: {least:g} and {study.eta} times as many are not within the "
            f"{config.train.epochs:g} epochs of {arm}; there is nothing to stop"
        )


def _check_storage(url: str | None, how: str, folder: epath.Path) -> None:
    if how != "tpe":
        if url is not None:
            raise RequestError(f"--storage={url}: only --search=tpe keeps its trials in a storage; leave it out")
        return
    import_optuna()
    if url is None and "://" in str(folder):
        raise RequestError(f"--storage: not given; {folder} is no folder of this machine, where SQLite could write")


def to_check(study: Study, units: list[Unit]) -> tuple[Study, list[Unit]]:
    """The runs whose arms show what is wrong with a request.

    Those given, but of a sweep whose trials are not known beforehand: for each swept arm, runs of its config with each
    value of each field, or the ends of the field's range, the other fields being as they are. Each trial is checked
    when it is asked for (`cnnjax.study.sweep.running`).
    """
    sweep = study.sweep
    if sweep is None or sweep.search != "tpe":
        return study, units
    arms: dict[str, Config] = dict(sweep.bases)
    for arm, dimensions in sweep.dimensions.items():
        for dimension in dimensions:
            for value in dimension.extremes:
                arms[f"{arm},{dimension.field}={value}"] = override(sweep.bases[arm], {dimension.field: value})
    study = dataclasses.replace(study, experiment=dataclasses.replace(study.experiment, arms=arms), seeds=1)
    return study, study.units
