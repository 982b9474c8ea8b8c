"""The report of a study: results.csv, the figures, and one self-contained HTML page."""

import base64
import datetime
import logging

import jinja2
import numpy as np
import pandas as pd

from cnnjax.config import RequestError, as_text, flatten, to_dict
from cnnjax.filters.plan import flatten as flatten_variables
from cnnjax.study import screening
from cnnjax.study.experiment import Lines
from cnnjax.study.figures import MOST_ARMS_DRAWN, Picture, accuracy_lines, column_lines, draw, save
from cnnjax.study.files import write_text
from cnnjax.study.findings import read_arrays
from cnnjax.study.gradient_figures import gradient_curves
from cnnjax.study.image_figures import confusion, draw_images, similarity
from cnnjax.study.loading import Run, load
from cnnjax.study.measure_figures import draw_measures, too_many_to_draw
from cnnjax.study.records import read_rows
from cnnjax.study.results import (
    SPEED_HEADINGS,
    estimate_columns,
    measured_rows,
    speed_rows,
    summarise,
    troubles,
    waiting,
    warnings,
    write_results,
)
from cnnjax.study.screening_figures import draw_screening
from cnnjax.study.summary import headings, table_rows
from cnnjax.study.sweep.figures import draw_sweep
from cnnjax.study.sweep.ranking import compared
from cnnjax.study.sweep.report import trial_sections, trial_table
from cnnjax.study.workdir import Study, Unit, read_status

log = logging.getLogger(__name__)

# Of a screening's architectures, how many of the best are named in its figure.
_TOP_MARKED = 3


def write_report(study: Study) -> None:
    """Writes `results.csv`, of a sweep `trials.csv`, `figures/` and `report.html` from what is on disk."""
    results = write_results(study)
    if study.sweep:
        write_text(study.folder / "trials.csv", trial_table(study).to_csv(index=False))
    everything, study = study, compared(study)
    summary = summarise(study, results)
    done = [unit for unit in study.units if read_status(unit).get("state") == "finished"]
    rows: dict[str, list[pd.DataFrame]] = {}
    for unit in done:
        rows.setdefault(unit.arm, []).append(pd.DataFrame(read_rows(unit.folder)))
    few = len(study.experiment.arms) <= MOST_ARMS_DRAWN
    firsts = _first_runs(done if few else done[:1])
    kernels = {arm: kernel for arm, run in firsts.items() if few and (kernel := first_kernel(run)) is not None}
    classes = next(iter(firsts.values())).dataset.num_classes if firsts else 0
    drawn = draw(summary, rows, kernels, 1 / classes if classes else 0.0)
    if study.experiment.lines:
        over = _numbers(study, study.experiment.lines)
        columns = estimate_columns(study, results).items()
        drawn = [accuracy_lines(summary, *over), *(column_lines(found, name, *over) for name, found in columns), *drawn]
    drawn += draw_measures(results)
    if few and (curves := gradient_curves(rows)):
        drawn.append(curves)
    for arm, run in firsts.items() if few else ():
        unit = Unit(arm, run.seed, study.folder / "runs" / arm / f"seed{run.seed}")
        drawn += draw_run(unit, len(run.dataset.shape) - 1)
    table = screening.screening_table(results, study.experiment.screening)
    floor = screening.linear_on_pixels(results)
    if study.experiment.screening:
        write_text(study.folder / "screening.csv", table.to_csv(index=False))
        drawn = draw_screening(table, floor, _TOP_MARKED) + drawn
    drawn = draw_sweep(everything) + drawn
    folder = study.folder / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [
        {"title": p.title, "sentence": p.sentence, "data": base64.b64encode(save(p, folder)).decode()} for p in drawn
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cnnjax.study", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html.jinja").render(
        experiment=study.experiment.name,
        question=study.experiment.question,
        headings=headings(study),
        rows=table_rows(summary),
        troubles=[*troubles(everything), *warnings(everything), *waiting(results)],
        sweep=trial_sections(everything),
        speed_headings=SPEED_HEADINGS,
        speeds=speed_rows(study, results),
        columns=["arm", *study.experiment.columns] if study.experiment.columns else [],
        measured=measured_rows(study, results),
        findings=screening.findings(table, floor) if study.experiment.screening else [],
        screening_headings=screening.HEADINGS,
        screening_rows=screening.table_rows(table),
        not_drawn=_not_drawn(study, results),
        pictures=pictures,
        settings=settings(study),
        machine=flatten(study.machine),
        date=datetime.date.today().isoformat(),
        data=firsts and next(iter(firsts.values())).dataset,
    )
    write_text(study.folder / "report.html", page)


def draw_run(unit: Unit, dimensions: int) -> list[Picture]:
    """The pictures that a run's measures left arrays for; its images have so many spatial dimensions."""
    arrays = read_arrays(unit)
    pictures = draw_images(unit.arm, arrays, dimensions)
    if "confusion/matrix" in arrays:
        pictures.append(confusion(unit.arm, arrays["confusion/matrix"]))
    if "cka/self" in arrays:
        pictures.append(similarity(unit.arm, arrays["cka/self"], arrays["cka/stages"].tolist()))
    return pictures


def _not_drawn(study: Study, results: pd.DataFrame) -> str:
    """Which figures there are too many arms for."""
    arms = len(study.experiment.arms)
    if arms <= MOST_ARMS_DRAWN:
        return ""
    left_out = ["Learning curves", "First filters", "Pictures and gradients of each arm", *too_many_to_draw(results)]
    return f"Not drawn, for there are {arms} arms and room for {MOST_ARMS_DRAWN} in a figure: {'; '.join(left_out)}."


def _numbers(study: Study, lines: Lines) -> tuple[str, dict[str, dict[str, float]]]:
    """The field of the lines, and by line the number of each arm."""
    numbers = {arm: flatten(to_dict(config)).get(lines.field) for arm, config in study.experiment.arms.items()}
    known = {arm: float(number) for arm, number in numbers.items() if number is not None}
    return lines.field, {name: {arm: known[arm] for arm in arms if arm in known} for name, arms in lines.arms.items()}


def _first_runs(done: list[Unit]) -> dict[str, Run]:
    """The finished run of each arm with the lowest seed that can be loaded; the report has its filters."""
    firsts: dict[str, Run] = {}
    for unit in done:
        if unit.arm not in firsts:
            try:
                firsts[unit.arm] = load(unit.folder)
            except RequestError as error:
                log.warning("%s", error)
    return firsts


def first_kernel(run: Run) -> np.ndarray | None:
    """The first convolution's kernel [*window, C, F] of a run; None if it has none."""
    params = flatten_variables(run.variables["params"])
    for stage in run.model.stage_names:
        for path, array in params.items():
            if path.startswith(f"{stage}/") and array.ndim >= 3:
                return np.asarray(array)
    return None


def settings(study: Study) -> list[tuple[str, list[str]]]:
    """The fields of the config with the value of each arm, as a flag would say it, those that differ between arms
    first."""
    arms = [flatten(to_dict(config)) for config in study.experiment.arms.values()]
    fields = [(field, [as_text(arm[field]) for arm in arms]) for field in arms[0]]
    return sorted(fields, key=lambda item: all(value == item[1][0] for value in item[1]))
