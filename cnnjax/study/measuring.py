"""Measures of finished runs: taken once, kept beside the run, never overwritten."""

import dataclasses
import io
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from rich.console import Console

from cnnjax.analysis.measures import MEASURES
from cnnjax.analysis.occasion import Measured, Occasion
from cnnjax.analysis.subject import Subject
from cnnjax.config import Config, DataConfig, MeasureConfig, RequestError, choose
from cnnjax.data.dataset import Dataset, load_dataset
from cnnjax.ops.transformations.table import find
from cnnjax.study.files import partial, write_json
from cnnjax.study.findings import measure_file, read_measure
from cnnjax.study.loading import load
from cnnjax.study.workdir import Study, Unit, read_status

Tell = Callable[[str], None]


def check_measures(config: Config, shape: tuple[int, ...]) -> None:
    """Raises `RequestError` for a measure or a transformation that there is not, or not for examples of this shape."""
    for name in config.measures.names:
        choose(MEASURES, name, "measure")
    for name in config.measures.transformations:
        try:
            entry = find(name)
        except ValueError as error:
            raise RequestError(f"config.measures.transformations: {error}") from None
        if config.measures.names and entry.dimensions != len(shape) - 1:
            raise RequestError(
                f"config.measures.transformations: {name} is for {entry.dimensions} spatial dimensions; the data have "
                f"{len(shape) - 1}"
            )


def measure_study(study: Study, datasets: dict[DataConfig, Dataset], console: Console) -> None:
    """Takes the measures that the arms' configs ask for of every finished run that does not have them.

    Args:
      study: with runs that have ended.
      datasets: those that are loaded already; others are added.
      console: told of each measure, in a line.

    Raises:
      RequestError: before anything is measured, for measures that cannot be taken; see the functions below.
    """
    to_do = []
    for unit in study.units:
        config = study.experiment.arms[unit.arm]
        if config.measures.names and read_status(unit).get("state") == "finished":
            if config.data not in datasets:
                datasets[config.data] = load_dataset(config.data)
            check_measures(config, datasets[config.data].summary.shape)
            if unmeasured(unit, config.measures):
                to_do.append(unit)
    for place, unit in enumerate(to_do):

        def tell(name: str, unit: Unit = unit, place: int = place) -> None:
            line = f"{unit.arm} seed {unit.seed} ({place + 1} of {len(to_do)}): measuring {name}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        measure_unit(unit, study, datasets[study.experiment.arms[unit.arm].data], tell)


def unmeasured(unit: Unit, measures: MeasureConfig) -> list[str]:
    """The measures asked for that a run does not have yet.

    Raises:
      RequestError: if it has one of them by other settings; what is there is not overwritten.
    """
    wanted = []
    for name in measures.names:
        path = measure_file(unit, name)
        if not path.exists():
            wanted.append(name)
            continue
        before, now = read_measure(path)["settings"], _settings(measures)
        if before != now:
            field = next(field for field in now if before.get(field) != now[field])
            raise RequestError(
                f"config.measures.{field}: {path} was measured with {before.get(field)!r}, not {now[field]!r}; remove "
                "it to measure anew"
            )
    return wanted


def measure_unit(unit: Unit, study: Study, dataset: Dataset, tell: Tell) -> None:
    """Takes the measures of a finished run that its config asks for and that it does not have.

    Args:
      unit: the run.
      study: it belongs to.
      dataset: the run's config's.
      tell: told of each measure before it is taken.

    Raises:
      RequestError: for a run without a checkpoint, with other measures there, or of another image size than the data.
    """
    measures = study.experiment.arms[unit.arm].measures
    wanted = unmeasured(unit, measures)
    if not wanted:
        return
    run = load(unit.folder)
    if run.dataset.shape != dataset.summary.shape:
        raise RequestError(f"{unit.folder} was trained on {run.dataset.shape}; the data are {dataset.summary.shape}")
    split = dataset.test if measures.split == "test" else dataset.validation
    images, labels = split.images[: measures.images], split.labels[: measures.images]
    occasion = Occasion(
        subject=run.subject,
        images=images,
        labels=labels,
        training=(dataset.train.images, dataset.train.labels),
        others=_others(unit, study),
        settings=measures,
        key=jax.random.key(unit.seed),
    )
    for name in wanted:
        tell(name)
        _write(unit, name, measures, MEASURES[name](occasion))


def _others(unit: Unit, study: Study) -> dict[str, Subject]:
    """The finished runs that a run is compared with: the same arm's of the next seed, and the baseline's of its own."""
    others = {}
    baseline = study.experiment.baseline
    candidates = {f"seed {unit.seed + 1}": (unit.arm, unit.seed + 1)}
    if baseline not in (None, unit.arm):
        candidates[str(baseline)] = (str(baseline), unit.seed)
    for name, which in candidates.items():
        for other in study.units:
            if (other.arm, other.seed) == which and read_status(other).get("state") == "finished":
                others[name] = load(other.folder).subject
    return others


def _settings(measures: MeasureConfig) -> dict[str, Any]:
    """What decides on the numbers: all but which are asked for and the batch size."""
    values = json.loads(json.dumps(dataclasses.asdict(measures)))
    return {name: value for name, value in values.items() if name not in ("names", "batch_size")}


def _write(unit: Unit, name: str, measures: MeasureConfig, measured: Measured) -> None:
    """The findings last: where they are, the measure is whole."""
    path = measure_file(unit, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if measured.arrays:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **measured.arrays)
        arrays = path.parent / f"{name}.npz"
        partial(arrays).write_bytes(buffer.getvalue())
        partial(arrays).replace(arrays)
    findings = [dataclasses.asdict(finding) for finding in measured.findings]
    write_json(path, {"settings": _settings(measures), "findings": findings})
