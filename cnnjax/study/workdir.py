"""The folder of a study: where everything lies, and whether it may be used."""

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from etils import epath

from cnnjax.config import Config, RequestError, flatten, from_dict, to_dict
from cnnjax.study.experiment import Column, Experiment, Lines
from cnnjax.study.files import is_disk_full, partial, write_json
from cnnjax.study.sweep.trials import Sweep, go_on, sweep_from_dict, sweep_to_dict
from cnnjax.train.population import Form

FORMAT = 6
_LOCK = ".lock"
# What a status says beside its state.
_STATES: dict[str, tuple[str, ...]] = {
    "running": (),
    "paused": ("metrics", "step", "epoch"),
    "finished": ("metrics", "parameters", "parameters_trained", "features", "best_step", "seconds"),
    "failed": ("error",),
    "diverged": ("error",),
}
_VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def machine() -> dict[str, Any]:
    """What the runs run on, and when: devices, processor, Python, and the versions that results may depend on."""
    device = jax.devices()[0]
    return {
        "date": datetime.date.today().isoformat(),
        "devices": f"{jax.device_count()} x {device.device_kind}",
        "processor": processor(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: metadata.version(package) for package in _VERSIONED},
    }


def processor() -> str:
    """How many cores it has, and its model where the system says it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{os.cpu_count()} cores, {next(models, platform.machine())}"


@dataclasses.dataclass(frozen=True)
class Unit:
    """One run: an arm with a seed, and its folder."""

    arm: str
    seed: int
    folder: epath.Path


@dataclasses.dataclass(frozen=True)
class Choice:
    """How runs of one shape are trained, decided once: in packs of so many at most, and in which form together; None
    for runs alone."""

    members: int
    form: Form | None


ALONE = Choice(1, None)


@dataclasses.dataclass(frozen=True)
class Study:
    """What `study.json` says.

    Attributes:
      folder: the workdir.
      experiment: the file's name, question and the arms asked for so far.
      seeds: how many were asked for so far.
      machine: what it was last trained on; this one, if it is new.
      reported: whether the report shows all of this.
      packs: by the shape of runs (`cnnjax.study.packs.shape_of`).
      sweep: that the arms are trials of; None if they are the experiment's.
    """

    folder: epath.Path
    experiment: Experiment
    seeds: int
    machine: Mapping[str, Any] = dataclasses.field(default_factory=machine)
    reported: bool = False
    packs: Mapping[str, Choice] = dataclasses.field(default_factory=dict)
    sweep: Sweep | None = None

    @property
    def units(self) -> list[Unit]:
        """All runs: for each seed, each arm; so that after the first seed there is something of every arm."""
        return [
            Unit(arm, seed, self.folder / "runs" / arm / f"seed{seed}")
            for seed in range(self.seeds)
            for arm in self.experiment.arms
        ]


def open_study(folder: epath.Path, experiment: Experiment, sweep: Sweep | None = None) -> Study:
    """The study that a request asks for in a workdir: new, or one that it goes on with. Nothing is written.

    More arms or seeds than before may be asked for; they are added. The baseline and the measures may change. A sweep
    has the arms and seeds that it began with.

    Args:
      folder: the workdir.
      experiment: what is asked.
      sweep: of its arms, with the trials that are known beforehand; their arms take the place of the experiment's.

    Raises:
      RequestError: for a folder that holds something else, or a study of another config; it says what differs.
    """
    asked = experiment.study
    if not _has_study(folder):
        arms = sweep.arms if sweep else experiment.arms
        return Study(folder, dataclasses.replace(experiment, arms=arms), asked.seeds, sweep=sweep)
    before = read_study(folder)
    if before.experiment.name != experiment.name:
        raise RequestError(
            f"--workdir: {folder} holds the study {before.experiment.name!r}, not {experiment.name!r}; use another"
        )
    sweep = go_on(before.sweep, sweep, str(folder))
    if sweep and before.sweep:
        if (asked.seeds, list(sweep.bases)) != (before.seeds, list(before.sweep.bases)):
            had = f"{', '.join(before.sweep.bases)} with {before.seeds} seed{'s' * (before.seeds > 1)}"
            raise RequestError(f"--workdir: {folder} holds a sweep of {had}; ask for the same, or use another folder")
        for arm, config in sweep.bases.items():
            _check_same(folder, arm, before.sweep.bases[arm], config)
        experiment = dataclasses.replace(experiment, arms=sweep.arms)
    for arm, config in experiment.arms.items():
        if arm in before.experiment.arms:
            _check_same(folder, arm, before.experiment.arms[arm], config)
    seeds = max(asked.seeds, before.seeds)
    section = dataclasses.replace(asked, seeds=seeds)
    arms = {
        arm: dataclasses.replace(config, study=section)
        for arm, config in {**before.experiment.arms, **experiment.arms}.items()
    }
    experiment = dataclasses.replace(experiment, arms=arms)
    study = dataclasses.replace(before, experiment=experiment, seeds=seeds, sweep=sweep)
    return study if study == before else dataclasses.replace(study, reported=False)


def read_study(folder: epath.Path) -> Study:
    """The study in a workdir.

    Raises:
      RequestError: if there is none, or its `study.json` cannot be read.
    """
    if not _has_study(folder):
        raise RequestError(f"--workdir: there is no study in {folder}")
    try:
        values = json.loads((folder / "study.json").read_text())
        if values["format"] != FORMAT:
            raise RequestError(f"--workdir: {folder} has format {values['format']}; this version reads {FORMAT}")
        arms = {arm: from_dict(config) for arm, config in values["arms"].items()}
        screening = {name: (random, trained) for name, (random, trained) in values["screening"].items()}
        drawn = values["lines"]
        lines = drawn and Lines(drawn["field"], {name: tuple(line) for name, line in drawn["arms"].items()})
        columns = {heading: Column(**column) for heading, column in values["columns"].items()}
        experiment = Experiment(values["experiment"], values["question"], arms, screening, lines, columns)
        packs = {shape: Choice(**choice) for shape, choice in values["packs"].items()}
        sweep = values["sweep"] and sweep_from_dict(values["sweep"])
        seeds, reported = int(values["seeds"]), bool(values.get("reported"))
        return Study(folder, experiment, seeds, dict(values["machine"]), reported, packs, sweep)
    except RequestError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(
            f"--workdir: {folder / 'study.json'} is not what cnnjax wrote ({type(error).__name__}: {error})"
        ) from None


def write_study(study: Study) -> None:
    """Writes `study.json`."""
    study.folder.mkdir(parents=True, exist_ok=True)
    values = {
        "format": FORMAT,
        "experiment": study.experiment.name,
        "question": study.experiment.question,
        "arms": {arm: to_dict(config) for arm, config in study.experiment.arms.items()},
        "screening": study.experiment.screening,
        "lines": study.experiment.lines and dataclasses.asdict(study.experiment.lines),
        "columns": {heading: dataclasses.asdict(column) for heading, column in study.experiment.columns.items()},
        "seeds": study.seeds,
        "machine": dict(study.machine),
        "reported": study.reported,
        "packs": {shape: dataclasses.asdict(choice) for shape, choice in study.packs.items()},
        "sweep": study.sweep and sweep_to_dict(study.sweep),
    }
    write_json(study.folder / "study.json", values)


@contextlib.contextmanager
def claim(folder: epath.Path) -> Iterator[None]:
    """Makes a workdir and holds it, so that no other process of this machine trains in it; not so in a bucket.

    The operating system lets go of it when the process ends, however it ends.

    Raises:
      RequestError: if another process holds it, or it cannot be made.
    """
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if "://" not in str(folder):
                lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT)
                held.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RequestError(f"--workdir: another process trains in {folder}; wait until it ends") from None
        except OSError as error:
            if is_disk_full(error):
                raise
            raise RequestError(f"--workdir: {folder} cannot be written ({error.strerror})") from None
        yield


def read_status(unit: Unit) -> dict[str, Any]:
    """What `status.json` of a run says; empty if the run has not begun.

    Raises:
      RequestError: if it cannot be read, or lacks what its state calls for.
    """
    path = unit.folder / "status.json"
    if not path.exists():
        return {}
    try:
        status = dict(json.loads(path.read_text()))
        missing = [name for name in _STATES[status["state"]] if name not in status]
        problem = f"it has no {missing[0]}" if missing else ""
    except (ValueError, TypeError, KeyError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise RequestError(
            f"--workdir: {path} is not what cnnjax wrote ({problem}); remove {unit.folder} to run it again"
        )
    return status


def _has_study(folder: epath.Path) -> bool:
    try:
        if not folder.exists():
            return False
        if not folder.is_dir():
            raise RequestError(f"--workdir: {folder} is a file; give a folder")
        ours = (partial(folder / "study.json").name, _LOCK)
        names = [path.name for path in folder.iterdir() if path.name not in ours]
    except OSError as error:
        raise RequestError(f"--workdir: {folder} cannot be read ({error.strerror})") from None
    if names and "study.json" not in names:
        raise RequestError(
            f"--workdir: {folder} is not empty and holds no study ({names[0]}, ...); give another folder"
        )
    return bool(names)


def _check_same(folder: epath.Path, arm: str, before: Config, now: Config) -> None:
    old, new = flatten(to_dict(before)), flatten(to_dict(now))
    differences = [
        f"{path} was {old.get(path)!r} and is now {new.get(path)!r}"
        for path in new
        if old.get(path) != new[path]
        and path not in ("study.seeds", "study.baseline", "study.pack")
        and not path.startswith("measures.")
    ]
    if differences:
        raise RequestError(
            f"--workdir: {folder} holds a study of another config (arm {arm}: {'; '.join(differences)}); use another"
        )
