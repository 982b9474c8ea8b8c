"""What the report of a study says of its sweep: the trials, the best first, as a table and as text."""

import pandas as pd

from cnnjax.study.results import percent
from cnnjax.study.sweep.ranking import Standing, standings
from cnnjax.study.sweep.spec import Dimension, text_of
from cnnjax.study.workdir import Study

COLUMNS = ("arm", "rank", "trial", "validation", "low", "high", "epochs", "state")


def trial_table(study: Study) -> pd.DataFrame:
    """One row for each trial, arm after arm, the best first.

    Columns: arm, of the experiment; rank, from 1; trial, the arm of the study that it is; validation, the best accuracy
    so far in the mean over seeds, with its 95% interval low to high; epochs, trained; state; and each swept field.
    """
    fields = list(dict.fromkeys(d.field for dimensions in _dimensions(study).values() for d in dimensions))
    rows = [
        {
            "arm": arm,
            "rank": rank,
            "trial": standing.name,
            "validation": standing.validation.mean,
            "low": standing.validation.low,
            "high": standing.validation.high,
            "epochs": standing.epochs,
            "state": standing.state,
            **standing.trial.point,
        }
        for arm in _dimensions(study)
        for rank, standing in enumerate(standings(study, arm), 1)
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS, *fields])


def trial_sections(study: Study) -> list[dict[str, object]]:
    """The tables of the trials as text, one for each swept arm: its `arm`, `headings` and `rows`, the best first."""
    return [
        {
            "arm": arm,
            "headings": ["rank", *(d.field for d in dimensions), "validation accuracy (%)", "epochs", "state"],
            "rows": [
                [
                    str(rank),
                    *map(text_of, standing.trial.point.values()),
                    percent(standing.validation),
                    *_fate(standing),
                ]
                for rank, standing in enumerate(standings(study, arm), 1)
            ],
        }
        for arm, dimensions in _dimensions(study).items()
    ]


def _fate(standing: Standing) -> tuple[str, str]:
    """How far it was trained, and how it stands: one that paused below the best was stopped."""
    return f"{standing.epochs:g}", "stopped" if standing.state == "paused" else standing.state


def best_lines(study: Study) -> list[str]:
    """A line for each swept arm: its best trial so far."""
    lines = []
    for arm in _dimensions(study):
        ranked = standings(study, arm)
        found = next((standing for standing in ranked if standing.state == "finished"), None)
        best = f"{found.name}, {percent(found.validation)}% on validation" if found else "none has finished"
        lines.append(f"{arm}, best of {len(ranked)} trials: {best}")
    return lines


def _dimensions(study: Study) -> dict[str, tuple[Dimension, ...]]:
    return study.sweep.dimensions if study.sweep else {}
