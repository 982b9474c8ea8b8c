"""A study's table of arms as text, and what is printed at its end."""

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cnnjax.config import RequestError
from cnnjax.study import screening
from cnnjax.study.results import percent, summarise, troubles, waiting, warnings
from cnnjax.study.sweep.ranking import compared
from cnnjax.study.sweep.report import best_lines
from cnnjax.study.workdir import Study

HEADINGS = ("arm", "test accuracy (%)", "difference to {} (%)", "parameters trained", "training (s)", "runs")


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


def print_summary(study: Study, results: pd.DataFrame, console: Console) -> None:
    """The table of the arms, of a sweep of their best trials; what went wrong, and where to look."""
    everything, study = study, compared(study)
    table = Table(title=f"{escape(study.experiment.name)}: mean and 95% interval over {study.seeds} seeds")
    for number, heading in enumerate(headings(study)):
        table.add_column(escape(heading), justify="left" if number == 0 else "right", overflow="fold")
    for row in table_rows(summarise(study, results)):
        table.add_row(*map(escape, row))
    console.print(table)
    if study.experiment.screening:
        architectures = screening.screening_table(results, study.experiment.screening)
        for quantity, value, _ in screening.findings(architectures, screening.linear_on_pixels(results)):
            console.print(f"{quantity}: {value}", markup=False, highlight=False, soft_wrap=True)
    for line in [*best_lines(everything), *troubles(everything), *warnings(everything), *waiting(results)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {study.folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


def require_finished(study: Study, results: pd.DataFrame) -> None:
    """Raises `RequestError` if no run has finished."""
    if results.empty:
        raise RequestError(f"--mode=report: no run in {study.folder} has finished")
