"""The report of a study: results.csv, the figures, and one self-contained HTML page."""

import base64
import datetime
import logging
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cnnjax.config import RequestError, flatten, to_dict
from cnnjax.filters.plan import flatten as flatten_variables
from cnnjax.study.figures import draw, save
from cnnjax.study.files import write_text
from cnnjax.study.loading import Run, load
from cnnjax.study.records import read_rows
from cnnjax.study.results import percent, summarise, troubles, write_results
from cnnjax.study.workdir import Study, Unit, read_status

log = logging.getLogger(__name__)

HEADINGS = ("arm", "test accuracy (%)", "difference to {} (%)", "parameters trained", "training (s)", "runs")


def write_report(study: Study) -> None:
    """Writes `results.csv`, `figures/` and `report.html` from what is on disk."""
    summary = summarise(study, write_results(study))
    done = [unit for unit in study.units if read_status(unit).get("state") == "finished"]
    rows: dict[str, list[pd.DataFrame]] = {}
    for unit in done:
        rows.setdefault(unit.arm, []).append(pd.DataFrame(read_rows(unit.folder)))
    firsts = _first_runs(done)
    kernels = {arm: kernel for arm, run in firsts.items() if (kernel := first_kernel(run)) is not None}
    classes = next(iter(firsts.values())).dataset.num_classes if firsts else 0
    folder = study.folder / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [
        {"title": p.title, "sentence": p.sentence, "data": base64.b64encode(save(p, folder)).decode()}
        for p in draw(summary, rows, kernels, 1 / classes if classes else 0.0)
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cnnjax.study", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html.jinja").render(
        experiment=study.experiment.name,
        question=study.experiment.question,
        headings=headings(study),
        rows=table_rows(summary),
        troubles=troubles(study),
        pictures=pictures,
        settings=settings(study),
        machine=flatten(study.machine),
        date=datetime.date.today().isoformat(),
        data=firsts and next(iter(firsts.values())).dataset,
    )
    write_text(study.folder / "report.html", page)


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


def headings(study: Study) -> list[str]:
    """Of the summary table."""
    return [heading.format(study.experiment.baseline or "the baseline") for heading in HEADINGS]


def table_rows(summary: pd.DataFrame) -> list[list[str]]:
    """The summary of the arms as text, in the order of `HEADINGS`."""
    return [
        [
            row["arm"],
            percent(row["accuracy"]),
            percent(row["difference"], signed=True),
            "–" if pd.isna(row["parameters_trained"]) else f"{int(row['parameters_trained']):,}",
            "–" if pd.isna(row["seconds"]) else f"{row['seconds']:.1f}",
            row["finished"],
        ]
        for row in summary.to_dict("records")
    ]


def settings(study: Study) -> list[tuple[str, list[Any]]]:
    """The fields of the config with the value of each arm, those that differ between arms first."""
    arms = [flatten(to_dict(config)) for config in study.experiment.arms.values()]
    fields = [(field, [arm[field] for arm in arms]) for field in arms[0]]
    return sorted(fields, key=lambda item: all(value == item[1][0] for value in item[1]))


def print_summary(study: Study, results: pd.DataFrame, console: Console) -> None:
    """The table of the arms, what went wrong, and where to look."""
    table = Table(title=f"{escape(study.experiment.name)}: mean and 95% interval over {study.seeds} seeds")
    for number, heading in enumerate(headings(study)):
        table.add_column(escape(heading), justify="left" if number == 0 else "right", overflow="fold")
    for row in table_rows(summarise(study, results)):
        table.add_row(*map(escape, row))
    console.print(table)
    for line in troubles(study):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {study.folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


def require_finished(study: Study, results: pd.DataFrame) -> None:
    """Raises `RequestError` if no run has finished."""
    if results.empty:
        raise RequestError(f"--mode=report: no run in {study.folder} has finished")
