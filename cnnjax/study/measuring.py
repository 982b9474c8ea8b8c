"""Measures of finished runs: taken once, kept beside the run, never overwritten."""

import dataclasses
import functools
import io
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath
from rich.console import Console

from cnnjax.analysis.lie_derivative import GROUPS, is_group
from cnnjax.analysis.measures import LEAST, MEASURES, READS, SWEPT, take
from cnnjax.analysis.occasion import Measured, Occasion
from cnnjax.analysis.subject import Subject
from cnnjax.config import DataConfig, MeasureConfig, RequestError, choose
from cnnjax.data.dataset import Dataset, DataSummary, load_dataset
from cnnjax.ops.transformations.table import check_transformation
from cnnjax.study.files import partial, write_json
from cnnjax.study.findings import measure_file, read_measure
from cnnjax.study.loading import Run, load
from cnnjax.study.sources import read_sources
from cnnjax.study.workdir import Study, Unit, read_status
from cnnjax.train.assembly import starting_variables

Load = Callable[[epath.Path], Run]

Pieces = dict[str, tuple[str, MeasureConfig]]
"""What is kept in a file of its own, by the file's name: a measure, or where it goes over transformations, a measure
along one of them; and its settings."""


def check_measures(measures: MeasureConfig, summary: DataSummary) -> None:
    """Raises `RequestError` for a measure or a transformation that there is not, or that cannot be taken of examples of
    this shape or so few of them."""
    images = min(measures.images, summary.sizes[measures.split])
    for name in measures.names:
        choose(MEASURES, name, "measure")
        for field, given in (("images", images), ("batch_size", measures.batch_size)):
            least = LEAST.get(name, {}).get(field, 1)
            if given < least:
                raise RequestError(f"config.measures.{field}: {name} needs {least} at least; there are {given}")
        if "transformations" in READS.get(name, ()):
            _check_transformations(name, measures.transformations, summary.shape)


def _check_transformations(measure: str, names: tuple[str, ...], shape: tuple[int, ...]) -> None:
    where = "config.measures.transformations"
    for name in names:
        try:
            check_transformation(name, shape)
        except ValueError as error:
            raise RequestError(f"{where}: {error}") from None
    if measure == "lie_derivative" and not any(is_group(name) for name in names):
        raise RequestError(f"{where}: lie_derivative is along {', '.join(GROUPS)}; given {', '.join(names) or 'none'}")


def pieces(measures: MeasureConfig) -> Pieces:
    """What is asked for."""
    found = {}
    for name in measures.names:
        if "transformations" not in READS.get(name, ()):
            found[name] = (name, measures)
            continue
        for along in measures.transformations:
            if name != "lie_derivative" or is_group(along):
                found[f"{name}_{along}"] = (name, dataclasses.replace(measures, transformations=(along,)))
    return found


def unmeasured(unit: Unit, measures: MeasureConfig) -> list[str]:
    """The pieces asked for that a run does not have yet.

    Raises:
      RequestError: if it has one of them by other settings; what is there is not overwritten.
    """
    wanted = []
    for piece, (name, settings) in pieces(measures).items():
        path = measure_file(unit, piece)
        if not path.exists():
            wanted.append(piece)
            continue
        before, now = read_measure(path)["settings"], _settings(name, settings)
        if before != now:
            field = next(field for field in now if before.get(field) != now[field])
            raise RequestError(
                f"config.measures.{field}: {path} was measured with {before.get(field)!r}, not {now[field]!r}; remove "
                "it to measure anew"
            )
    return wanted


def to_measure(study: Study) -> list[Unit]:
    """The finished runs that lack a measure that their arms ask for.

    Raises:
      RequestError: see `unmeasured`.
    """
    done = [unit for unit in study.units if read_status(unit).get("state") == "finished"]
    return [unit for unit in done if unmeasured(unit, study.experiment.arms[unit.arm].measures)]


def measure_study(study: Study, datasets: dict[DataConfig, Dataset], console: Console) -> None:
    """Takes the measures that the arms' configs ask for of every finished run that does not have them.

    Args:
      study: with runs that have ended.
      datasets: those that are loaded already; others are added.
      console: told of each measure, in a line.

    Raises:
      RequestError: before anything is measured, for measures that cannot be taken, and for a run without a checkpoint,
        with other measures there, or of another image size than the data.
    """
    units = to_measure(study)
    arms = study.experiment.arms
    load_once = functools.lru_cache(maxsize=64)(load)
    for unit in units:
        config = arms[unit.arm]
        if config.data not in datasets:
            datasets[config.data] = load_dataset(config.data)
        summary, run = datasets[config.data].summary, load_once(unit.folder)
        check_measures(config.measures, summary)
        if run.dataset.shape != summary.shape:
            raise RequestError(f"{unit.folder} was trained on {run.dataset.shape}; the data are {summary.shape}")
    for place, unit in enumerate(units):

        def tell(piece: str, unit: Unit = unit, place: int = place) -> None:
            line = f"{unit.arm} seed {unit.seed} ({place + 1} of {len(units)}): measuring {piece}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        measure_unit(unit, study, datasets[arms[unit.arm].data], load_once, tell)


def measure_unit(unit: Unit, study: Study, dataset: Dataset, load_run: Load, tell: Callable[[str], None]) -> None:
    """Takes the measures of a finished run that its config asks for and that it does not have.

    Args:
      unit: the run.
      study: it belongs to.
      dataset: the run's config's.
      load_run: `cnnjax.load`, or what remembers it.
      tell: told of each piece before it is taken.

    Raises:
      RequestError: for what a measure refuses.
    """
    measures = study.experiment.arms[unit.arm].measures
    split = dataset.test if measures.split == "test" else dataset.validation
    run = load_run(unit.folder)
    arms, others = _relatives(unit, study, run, load_run)
    occasion = Occasion(
        subject=run.subject,
        images=split.images[: measures.images],
        labels=split.labels[: measures.images],
        training=(dataset.train.images, dataset.train.labels),
        arm=unit.arm,
        arms=arms,
        others=others,
        settings=measures,
        key=jax.random.key(unit.seed),
        start=functools.partial(_start, unit, study, run, dataset, tell),
    )
    every = pieces(measures)
    for group in _taken_together({piece: every[piece] for piece in unmeasured(unit, measures)}):
        names, settings = [name for name, _ in group.values()], next(iter(group.values()))[1]
        tell(", ".join(group))
        try:
            measured = take(names, dataclasses.replace(occasion, settings=settings))
        except ValueError as error:
            raise RequestError(f"config.measures: {', '.join(names)} of {unit.folder}: {error}") from error
        for piece, (name, _) in group.items():
            _write(unit, piece, _settings(name, settings), measured[name])


def _taken_together(wanted: Pieces) -> list[Pieces]:
    """The pieces in groups: those that share a walk over the images, by transformation, and each other by itself."""
    groups: dict[Any, Pieces] = {}
    for piece, (name, settings) in wanted.items():
        group = settings.transformations if name in SWEPT else piece
        groups.setdefault(group, {})[piece] = (name, settings)
    return list(groups.values())


def _start(unit: Unit, study: Study, run: Run, dataset: Dataset, tell: Callable[[str], None]) -> Subject | None:
    """The run before its first step, made anew from its config and seed; None, which is told, if a source of its
    filters has gone."""
    if not any(str(column).startswith("gradient_norm/") for column in run.metrics):
        tell("gradients at the start and the end: along training they are measured only while a run trains")
    try:
        saved = read_sources(run.config.filters, run.config.model.name, unit.seed, study.folder)
        variables = starting_variables(run.config, dataset, unit.seed, saved)
    except RequestError as error:
        tell(f"gradients without those at the start: {error}")
        return None
    return dataclasses.replace(run.subject, variables=variables)


def _relatives(unit: Unit, study: Study, run: Run, load_run: Load) -> tuple[dict[str, Subject], dict[str, Subject]]:
    """The finished runs of the same images and classes: of the other arms with the same seed; and those that a run is
    compared with, the next seed of its own arm and the baseline."""
    same = {}
    for other in study.units:
        near = other.seed == unit.seed or (other.arm == unit.arm and other.seed == unit.seed + 1)
        if near and other != unit and read_status(other).get("state") == "finished":
            loaded = load_run(other.folder)
            alike = ("shape", "num_classes", "low", "high")
            if all(getattr(loaded.dataset, field) == getattr(run.dataset, field) for field in alike):
                same[other] = loaded.subject
    arms = {other.arm: subject for other, subject in same.items() if other.seed == unit.seed}
    others = [subject for other, subject in same.items() if other.seed != unit.seed]
    baseline = str(study.experiment.baseline)
    compared = {baseline: arms[baseline]} if baseline in arms else {}
    return arms, compared | dict(zip(("next seed",), others, strict=False))


def _settings(name: str, measures: MeasureConfig) -> dict[str, Any]:
    """What decides on the numbers of a measure."""
    values = json.loads(json.dumps(dataclasses.asdict(measures)))
    return {field: values[field] for field in ("split", "images", *READS.get(name, ()))}


def _write(unit: Unit, piece: str, settings: dict[str, Any], measured: Measured) -> None:
    """The findings last: where they are, the measure is whole."""
    path = measure_file(unit, piece)
    path.parent.mkdir(parents=True, exist_ok=True)
    if measured.arrays:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **measured.arrays)
        arrays = path.parent / f"{piece}.npz"
        partial(arrays).write_bytes(buffer.getvalue())
        partial(arrays).replace(arrays)
    findings = [dataclasses.asdict(finding) for finding in measured.findings]
    write_json(path, {"settings": settings, "findings": findings})
