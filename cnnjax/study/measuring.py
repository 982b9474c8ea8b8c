"""Measures of finished runs: taken once and kept beside the run, but for those that compare it with others, which are
taken again when there are more of these."""

import dataclasses
import functools
import io
import json
from collections.abc import Callable, Collection
from typing import Any

import jax
import numpy as np
from etils import epath
from rich.console import Console

from cnnjax.analysis.lie_derivative import GROUPS, is_group
from cnnjax.analysis.measures import COMPARED, LEAST, MEASURES, OF_TRAINING, READS, SWEPT, take
from cnnjax.analysis.occasion import Measured, Occasion
from cnnjax.analysis.subject import Subject
from cnnjax.config import DataConfig, MeasureConfig, RequestError, choose
from cnnjax.data.dataset import DataSummary
from cnnjax.data.streamed import AnyDataset, first_examples, open_dataset
from cnnjax.ops.transformations.table import check_transformation, find
from cnnjax.study.files import partial, write_json
from cnnjax.study.findings import measure_file, read_measure
from cnnjax.study.loading import Run, load
from cnnjax.study.relatives import Relatives, finished_runs, relatives
from cnnjax.study.sources import read_sources
from cnnjax.study.workdir import Study, Unit, read_status
from cnnjax.train.beginning import starting_variables

_TRANSFORMATIONS = "config.measures.transformations"

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


def _check_name(transformation: str) -> None:
    try:
        find(transformation)
    except ValueError as error:
        raise RequestError(f"{_TRANSFORMATIONS}: {error}") from None


def _check_transformations(measure: str, names: tuple[str, ...], shape: tuple[int, ...]) -> None:
    for name in names:
        try:
            check_transformation(name, shape)
        except ValueError as error:
            raise RequestError(f"{_TRANSFORMATIONS}: {error}") from None
    if measure == "lie_derivative" and not any(is_group(name) for name in names):
        along = f"lie_derivative is along {', '.join(GROUPS)}; given {', '.join(names) or 'none'}"
        raise RequestError(f"{_TRANSFORMATIONS}: {along}")


def pieces(measures: MeasureConfig) -> Pieces:
    """What is asked for.

    Raises:
      RequestError: for a measure or a transformation that there is not.
    """
    found = {}
    for name in measures.names:
        choose(MEASURES, name, "measure")
        if "transformations" not in READS.get(name, ()):
            found[name] = (name, measures)
            continue
        for along in measures.transformations:
            _check_name(along)
            if name != "lie_derivative" or is_group(along):
                found[f"{name}_{along}"] = (name, dataclasses.replace(measures, transformations=(along,)))
    return found


def unmeasured(unit: Unit, measures: MeasureConfig, near: Relatives) -> list[str]:
    """The pieces asked for that a run does not have yet, or has without a comparison with one of its relatives.

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
        compared = before.pop("compared", [])
        if before != now:
            field = next(field for field in now if before.get(field) != now[field])
            raise RequestError(
                f"config.measures.{field}: {path} was measured with {before.get(field)!r}, not {now[field]!r}; remove "
                "it to measure anew"
            )
        if not set(near.compared(name)) <= set(compared):
            wanted.append(piece)
    return wanted


def to_measure(study: Study) -> list[Unit]:
    """The finished runs that lack a measure that their arms ask for; of a sweep's trials, those that may read the test
    split.

    Raises:
      RequestError: see `unmeasured`.
    """
    done = [unit for unit in study.units if "test" in read_status(unit).get("metrics", {})]
    finished = finished_runs(study)
    return [
        unit
        for unit in done
        if unmeasured(unit, study.experiment.arms[unit.arm].measures, relatives(unit, study, finished))
    ]


def measure_study(
    study: Study,
    datasets: dict[DataConfig, AnyDataset],
    console: Console,
    wanted: Collection[Unit] | None = None,
) -> None:
    """Takes the measures that the arms' configs ask for of every finished run that does not have them.

    Args:
      study: with runs that have ended.
      datasets: those that are loaded already; others are added.
      console: told of each measure, in a line.
      wanted: of which runs; None for all.

    Raises:
      RequestError: before anything is measured, for measures that cannot be taken, and for a run without a checkpoint,
        with other measures there, or of another image size than the data.
    """
    units = [unit for unit in to_measure(study) if wanted is None or unit in wanted]
    arms = study.experiment.arms
    load_once = functools.lru_cache(maxsize=64)(load)
    finished = finished_runs(study)
    for unit in units:
        config = arms[unit.arm]
        if config.data not in datasets:
            datasets[config.data] = open_dataset(config.data)
        summary, run = datasets[config.data].summary, load_once(unit.folder)
        check_measures(config.measures, summary)
        if run.dataset.shape != summary.shape:
            raise RequestError(f"{unit.folder} was trained on {run.dataset.shape}; the data are {summary.shape}")
    for place, unit in enumerate(units):

        def tell(piece: str, unit: Unit = unit, place: int = place) -> None:
            line = f"{unit.arm} seed {unit.seed} ({place + 1} of {len(units)}): measuring {piece}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        near = relatives(unit, study, finished)
        measure_unit(unit, study, near, datasets[arms[unit.arm].data], load_once, tell)


def measure_unit(
    unit: Unit, study: Study, near: Relatives, dataset: AnyDataset, load_run: Load, tell: Callable[[str], None]
) -> None:
    """Takes the measures of a finished run that its config asks for and that it does not have.

    Args:
      unit: the run.
      study: it belongs to.
      near: the runs that it is compared with.
      dataset: the run's config's.
      load_run: `cnnjax.load`, or what remembers it.
      tell: told of each piece before it is taken.

    Raises:
      RequestError: for what a measure refuses.
    """
    measures = study.experiment.arms[unit.arm].measures
    split = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}[measures.split]
    run = load_run(unit.folder)
    memory = study.experiment.arms[unit.arm].data.memory
    images, labels = first_examples(split, measures.images, memory)
    occasion = Occasion(
        subject=run.subject,
        images=images,
        labels=labels,
        training=first_examples(dataset.train, measures.probe_images, memory),
        training_part=first_examples(dataset.train, measures.images, memory),
        label_smoothing=run.config.optim.label_smoothing,
        arm=unit.arm,
        arms={arm: load_run(other.folder).subject for arm, other in near.arms.items()},
        others={name: load_run(other.folder).subject for name, other in near.others.items()},
        settings=measures,
        key=jax.random.key(unit.seed),
        start=functools.partial(_start, unit, study, run, dataset, tell),
    )
    every = pieces(measures)
    for group in _taken_together({piece: every[piece] for piece in unmeasured(unit, measures, near)}):
        names, settings = [name for name, _ in group.values()], next(iter(group.values()))[1]
        tell(", ".join(group))
        try:
            measured = take(names, dataclasses.replace(occasion, settings=settings))
        except (ValueError, FloatingPointError) as error:
            raise RequestError(f"config.measures: {', '.join(names)} of {unit.folder}: {error}") from error
        for piece, (name, _) in group.items():
            compared = {"compared": near.compared(name)} if name in COMPARED else {}
            _write(unit, piece, _settings(name, settings) | compared, measured[name])


def _taken_together(wanted: Pieces) -> list[Pieces]:
    """The pieces in groups: those that share a walk over the images, by transformation, and each other by itself."""
    groups: dict[Any, Pieces] = {}
    for piece, (name, settings) in wanted.items():
        group = settings.transformations if name in SWEPT else piece
        groups.setdefault(group, {})[piece] = (name, settings)
    return list(groups.values())


def _start(unit: Unit, study: Study, run: Run, dataset: AnyDataset, tell: Callable[[str], None]) -> Subject | None:
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


def _settings(name: str, measures: MeasureConfig) -> dict[str, Any]:
    """What decides on the numbers of a measure."""
    split = "train" if name in OF_TRAINING else measures.split
    values = json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(measures, split=split))))
    return {field: values[field] for field in ("split", "images", *READS.get(name, ()))}


def _write(unit: Unit, piece: str, settings: dict[str, Any], measured: Measured) -> None:
    """The findings last: where they are, the measure is whole. Where they were, a measure that has not come to its end
    leaves the old ones, whose settings say that it is to be taken again."""
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
