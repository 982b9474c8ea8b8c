"""What the runs of a study found: the tidy table, and the summary of its arms."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from cnnjax.config import RequestError
from cnnjax.study.experiment import Column
from cnnjax.study.files import write_text
from cnnjax.study.findings import read_findings
from cnnjax.study.records import Row, read_rows
from cnnjax.study.statistics import Estimate, estimate, estimate_measure, paired_difference
from cnnjax.study.workdir import Study, Unit, read_status

COLUMNS = ("arm", "seed", "split", "metric", "stage", "magnitude", "value", "low", "high")


def collect(study: Study) -> pd.DataFrame:
    """One row for each finished run, split and metric (and stage or magnitude), with the columns of `COLUMNS`.

    Measures have an interval over images, `low` to `high`.

    Metrics of the whole run have no split: `parameters`, `parameters_trained`, `best_step`, `train_seconds`,
    `preparation_seconds`; of a head in closed form its `strength`; of a run that was trained step by step
    `compilation_seconds`, `images_per_second`, `flops_per_second`, `peak_share`, and of streamed data
    `data_wait_seconds`.

    Raises:
      RequestError: if a finished run's files are damaged.
    """
    rows = []
    for unit in study.units:
        status = read_status(unit)
        if status.get("state") == "finished":
            found = [*_rows(unit, status), *read_findings(unit)]
            rows += [{"arm": unit.arm, "seed": unit.seed, **row} for row in found]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write_results(study: Study) -> pd.DataFrame:
    """Writes `results.csv` and returns it."""
    results = collect(study)
    write_text(study.folder / "results.csv", results.to_csv(index=False))
    return results


def _rows(unit: Unit, status: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        return _rows_of(status, read_rows(unit.folder))
    except (LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise RequestError(
            f"--workdir: status.json and metrics.jsonl in {unit.folder} are not what cnnjax wrote for a finished run "
            f"({reason}); remove the folder to run it again"
        ) from None


def _rows_of(status: dict[str, Any], evaluations: list[Row]) -> list[dict[str, Any]]:
    rows = [
        {"split": split, "metric": metric, "value": value}
        for split, metrics in status["metrics"].items()
        for metric, value in metrics.items()
    ]
    last = [row for row in evaluations if row["split"] == "train"][-1]
    rows += [{"split": "train", "metric": metric, "value": last[metric]} for metric in ("loss", "accuracy")]
    whole = ("parameters", "parameters_trained", "features", "best_step")
    rows += [{"metric": metric, "value": status[metric]} for metric in whole]
    if "strength" in status:
        rows.append({"metric": "strength", "value": status["strength"]})
    seconds = {kind: status["seconds"][kind] for kind in ("train", "preparation")} | status["seconds"]
    times = {f"{kind}_seconds": value for kind, value in seconds.items()} | status.get("speed", {})
    return [*rows, *({"metric": metric, "value": value} for metric, value in times.items())]


def summarise(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """One row for each arm.

    Columns: arm; accuracy, on the test split (an `Estimate` over seeds); difference, to the baseline, paired by seed
    (an `Estimate`, None for the baseline itself or where there is none); parameters_trained; mean seconds of training;
    finished, of units, e.g. `5/5`.
    """
    baseline = study.experiment.baseline
    test = _by_arm(results, "accuracy", "test")
    rows = []
    for arm in study.experiment.arms:
        values = test.get(arm, {})
        difference = None
        if baseline not in (None, arm):
            difference = paired_difference(values, test.get(str(baseline), {}))
        trained = list(_by_arm(results, "parameters_trained").get(arm, {}).values())
        rows.append(
            {
                "arm": arm,
                "accuracy": estimate(list(values.values())),
                "difference": difference,
                "parameters_trained": int(trained[0]) if trained else None,
                "seconds": estimate(list(_by_arm(results, "train_seconds").get(arm, {}).values())).mean,
                "finished": f"{len(values)}/{study.seeds}",
            }
        )
    return pd.DataFrame(rows)


def measured_rows(study: Study, results: pd.DataFrame) -> list[list[str]]:
    """The table that the experiment's `columns` ask for, as text: each arm, and in each column the mean over seeds of
    what was found, with its 95% interval (of one seed, that over images); `–` where nothing was, or several things for
    a seed."""
    columns = estimate_columns(study, results)
    return [
        [arm, *(_as_text(heading, found[arm]) for heading, found in columns.items())] for arm in study.experiment.arms
    ]


def estimate_columns(study: Study, results: pd.DataFrame) -> dict[str, dict[str, Estimate]]:
    """By heading of the experiment's `columns`, by arm, what was found; of no seed where nothing was, or several things
    for a seed."""
    return {
        heading: {arm: _found(results, arm, column) for arm in study.experiment.arms}
        for heading, column in study.experiment.columns.items()
    }


def _found(results: pd.DataFrame, arm: str, column: Column) -> Estimate:
    rows = results[(results.arm == arm) & (results.metric == column.metric)]
    if column.stage is not None:
        rows = rows[rows.stage == column.stage]
    if column.magnitude is not None and not rows.empty:
        rows = rows[np.isclose(rows.magnitude.astype(float), column.magnitude, rtol=1e-3)]
    if rows.seed.duplicated().any():
        return estimate([])  # the column does not say which
    return estimate_measure(rows)


def _as_text(heading: str, value: Estimate) -> str:
    if heading.endswith("(%)") or value.seeds == 0:
        return percent(value)
    mean, low, high = (f"{number:.3g}" for number in (value.mean, value.low, value.high))
    return mean if math.isnan(value.low) else f"{mean} [{low}, {high}]"


def troubles(study: Study) -> list[str]:
    """One line for each run that failed or diverged."""
    lines = []
    for unit in study.units:
        status = read_status(unit)
        if status.get("state") in ("failed", "diverged"):
            lines.append(f"{unit.arm} seed {unit.seed} {status['state']}: {status['error']}")
    return lines


def warnings(study: Study) -> list[str]:
    """One line for each finished run that there is something to be said against."""
    statuses = ((unit, read_status(unit)) for unit in study.units)
    return [f"{unit.arm} seed {unit.seed}: {status['warning']}" for unit, status in statuses if "warning" in status]


def waiting(results: pd.DataFrame) -> list[str]:
    """A line that says how long the devices waited for streamed data; none where none was streamed."""
    waited = results[results.metric == "data_wait_seconds"]
    if waited.empty:
        return []
    runs = results.merge(waited[["arm", "seed"]], on=["arm", "seed"])
    trained = runs[runs.metric == "train_seconds"].value.sum()
    return [f"the devices waited for data for {waited.value.sum() / trained:.0%} of the training"]


SPEED_HEADINGS = (
    "arm",
    "images/s",
    "GFLOP/s",
    "share of the peak",
    "preparation (s)",
    "compilation (s)",
    "training (s)",
)


def speed_rows(study: Study, results: pd.DataFrame) -> list[list[str]]:
    """How fast each arm was trained, as text under `SPEED_HEADINGS`: means over its runs; none for arms that were not
    trained step by step."""
    forms: dict[str, Callable[[float], str]] = {
        "images_per_second": lambda value: f"{value:,.0f}",
        "flops_per_second": lambda value: f"{value / 1e9:,.1f}",
        "peak_share": lambda value: f"{value:.0%}",
        "preparation_seconds": "{:.1f}".format,
        "compilation_seconds": "{:.1f}".format,
        "train_seconds": "{:.1f}".format,
    }
    means = results[results.metric.isin(list(forms))].groupby(["arm", "metric"]).value.mean()
    fast = [arm for arm in study.experiment.arms if (arm, "images_per_second") in means.index]
    return [
        [arm, *(form(means[arm, name]) if (arm, name) in means.index else "–" for name, form in forms.items())]
        for arm in fast
    ]


def percent(value: Estimate | None, *, signed: bool = False) -> str:
    """A share as text in percent, with its interval: `95.1 [94.0, 96.2]`."""
    if value is None or value.seeds == 0:
        return "–"
    form = "{:+.1f}" if signed else "{:.1f}"
    mean, low, high = (form.format(100 * number) for number in (value.mean, value.low, value.high))
    return mean if math.isnan(value.low) else f"{mean} [{low}, {high}]"


def _by_arm(results: pd.DataFrame, metric: str, split: str | None = None) -> dict[str, dict[int, float]]:
    chosen = results[(results.metric == metric) & (results.split == split if split else results.split.isna())]
    return {
        str(arm): dict(zip(rows.seed.astype(int), rows.value.astype(float), strict=True))
        for arm, rows in chosen.groupby("arm", sort=False)
    }
