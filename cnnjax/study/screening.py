"""Screening of architectures (Saxe 2011, On random weights and unsupervised feature learning).

Each architecture has two arms: a random one (random frozen filters under a head fitted in closed form), and one that
is trained in full. How well does the first, which is cheap, predict the second? An architecture is predicted, ranked
and chosen by the validation accuracy of its random arm alone; what the choice is worth is read from the test accuracy
of the trained arm.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from cnnjax.study.rank_correlation import agreement, tau_difference
from cnnjax.study.results import percent
from cnnjax.study.statistics import Estimate, estimate

FLOOR_ARM = "linear on pixels"
HEADINGS = (
    "architecture",
    "random, validation (%)",
    "random, test (%)",
    "trained, validation (%)",
    "trained, test (%)",
    "parameters",
    "features",
    "random (s)",
    "trained (s)",
    "runs",
)
_ACCURACIES = ("random_validation", "random_test", "trained_validation", "trained_test")
_COLUMNS = (
    "architecture",
    *(column + end for column in _ACCURACIES for end in ("", "_low", "_high")),
    *("parameters", "features", "random_seconds", "trained_seconds", "random_runs", "trained_runs"),
)
_TOPS = (1, 3, 5, 10)
# Predictors that need no run.
_BASELINES = {"parameter count": "parameters", "feature dimension": "features"}


def screening_table(results: pd.DataFrame, screening: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """One row for each architecture, in the order of `screening`.

    Columns: architecture; random_validation, random_test, trained_validation, trained_test: mean accuracies over the
    finished seeds, each with `_low` and `_high`, its 95% interval (see `cnnjax.study.statistics.estimate`); parameters
    of the trained arm; features, the size of what the random arm's head reads; random_seconds, trained_seconds, of
    preparation and training over all finished seeds together; random_runs, trained_runs, finished ones. What was not
    run is NaN, its number of runs 0.

    Args:
      results: see `cnnjax.study.results.collect`.
      screening: for each architecture the name of its random and of its trained arm.
    """
    values = _values(results)
    return pd.DataFrame([_row(values, name, *arms) for name, arms in screening.items()], columns=list(_COLUMNS))


def _values(results: pd.DataFrame) -> dict[tuple[str, str, str], list[float]]:
    """The seeds' values by arm, metric and split ("" for none), of whole undisturbed networks."""
    whole = results[results.stage.isna() & results.magnitude.isna()]
    values: dict[tuple[str, str, str], list[float]] = {}
    for arm, metric, split, value in zip(whole.arm, whole.metric, whole.split, whole.value, strict=True):
        values.setdefault((arm, metric, split if isinstance(split, str) else ""), []).append(float(value))
    return values


def _row(values: Mapping[tuple[str, str, str], list[float]], name: str, random: str, trained: str) -> dict[str, object]:
    row: dict[str, object] = {"architecture": name}
    for kind, arm in (("random", random), ("trained", trained)):
        for split in ("validation", "test"):
            found = estimate(values.get((arm, "accuracy", split), []))
            column = f"{kind}_{split}"
            # Rounded, so that the same number of hits is the same mean in whatever order the seeds are added up.
            row |= {column: round(found.mean, 12), f"{column}_low": found.low, f"{column}_high": found.high}
            row[f"{kind}_runs"] = found.seeds
        training, preparation = (values.get((arm, f"{part}_seconds", ""), []) for part in ("train", "preparation"))
        row[f"{kind}_seconds"] = sum(training) + sum(preparation) if training else math.nan
    row["parameters"] = estimate(values.get((trained, "parameters", ""), [])).mean
    row["features"] = estimate(values.get((random, "features", ""), [])).mean
    return row


def complete(table: pd.DataFrame, by: str = "random_validation") -> pd.DataFrame:
    """The rows of a screening table whose two arms both have a finished run, those with the most of a column first.

    Equal ones stay in the order of the table.
    """
    return _ranked(table.dropna(subset=["random_validation", "trained_test"]), by)


def choose_top(results: pd.DataFrame, screening: Mapping[str, tuple[str, str]], top: int) -> list[str]:
    """The trained arms of the architectures that are best by the validation accuracy of their random arm, best first.

    Architectures without a finished run of the random arm are not chosen.

    Args:
      results: see `cnnjax.study.results.collect`.
      screening: for each architecture the name of its random and of its trained arm.
      top: how many, at least 1.
    """
    ranked = _ranked(screening_table(results, screening).dropna(subset=["random_validation"]))
    return [screening[name][1] for name in ranked.architecture[:top]]


def _ranked(table: pd.DataFrame, by: str = "random_validation") -> pd.DataFrame:
    return table.sort_values(by, ascending=False, kind="stable", ignore_index=True)


def regret(table: pd.DataFrame, tops: Sequence[int], by: str = "random_validation") -> pd.DataFrame:
    """What is lost, and what it costs, when only the k best architectures by their random arms are trained.

    Over the architectures that have both arms, so that it is a lower bound where some were never trained.

    Args:
      table: see `screening_table`.
      tops: values of k, each in [1, architectures with both arms].
      by: the column that ranks them; `parameters` and `features` need no run of the random arms.

    Returns:
      One row for each k: top, which is k; regret: the best trained test accuracy of all minus the best among the k;
      by_chance: the mean regret of k architectures chosen at random; cost: the seconds of the k trained arms, and of
      all random ones if these rank them, over those of training all, see `full_seconds`.

    Raises:
      ValueError: for a k out of range.
    """
    both = complete(table, by)
    if wrong := [top for top in tops if not 1 <= top <= len(both)]:
        raise ValueError(f"top must be in [1, {len(both)}], the architectures with both arms; given {wrong[0]}")
    accuracy, seconds = both.trained_test.to_numpy(), both.trained_seconds.to_numpy()
    screened = table.random_seconds.sum() if by == "random_validation" else 0.0
    rows = []
    for top in tops:
        # The chance that the best of k drawn without replacement is the i-th worst.
        chance = special.comb(np.arange(len(both)), top - 1) / special.comb(len(both), top)
        rows.append(
            {
                "top": top,
                "regret": accuracy.max() - accuracy[:top].max(),
                "by_chance": accuracy.max() - chance @ np.sort(accuracy),
                "cost": (screened + seconds[:top].sum()) / full_seconds(table),
            }
        )
    return pd.DataFrame(rows, columns=["top", "regret", "by_chance", "cost"])


def full_seconds(table: pd.DataFrame) -> float:
    """The seconds of training every architecture: those that were not trained are taken to need the mean of those that
    were; NaN if none was."""
    return float(table.trained_seconds.mean() * len(table))


def cost_share(table: pd.DataFrame) -> float:
    """Seconds of the random arms over those of training all, see `full_seconds`; NaN if none was trained."""
    return float(table.random_seconds.sum() / full_seconds(table)) if len(complete(table)) else math.nan


def linear_on_pixels(results: pd.DataFrame) -> Estimate:
    """The test accuracy of the arm that is a linear classifier of the pixels; of no seeds if there is none."""
    return estimate(_values(results).get((FLOOR_ARM, "accuracy", "test"), []))


def table_rows(table: pd.DataFrame) -> list[list[str]]:
    """A screening table as text in the order of `HEADINGS`, the best by their random arms first."""
    return [
        [
            row["architecture"],
            *(percent(_estimate(row, column)) for column in _ACCURACIES),
            *(_number(row[column], "{:,.0f}") for column in ("parameters", "features")),
            *(_number(row[column], "{:.1f}") for column in ("random_seconds", "trained_seconds")),
            f"{row['random_runs']} + {row['trained_runs']}",
        ]
        for row in _ranked(table).to_dict("records")
    ]


def _estimate(row: Mapping[Any, Any], column: str) -> Estimate:
    runs = int(row[column.split("_")[0] + "_runs"])
    return Estimate(row[column], row[f"{column}_low"], row[f"{column}_high"], runs)


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else form.format(value)


def findings(table: pd.DataFrame, floor: Estimate) -> list[tuple[str, str, str]]:
    """What the screening found: each quantity, its value with its interval, and a sentence on it.

    Args:
      table: see `screening_table`.
      floor: see `linear_on_pixels`.
    """
    both = complete(table)
    found = agreement(both.random_validation, both.trained_test)
    compared = "Those with a finished run of both arms."
    if len(both) < len(table):
        compared += (
            " The regret is among these alone; what training the others would cost is estimated by the mean of these; "
            "and where the others were left untrained for their random accuracy, the range is narrowed, and the "
            "correlation with it."
        )
    of = "of random filters' validation accuracy with the test accuracy after training"
    lines = [
        ("architectures", f"{len(both)} of {len(table)}", compared),
        ("Kendall tau-b", str(found.tau), f"Rank correlation {of}; 95% bootstrap interval over architectures."),
        ("Spearman rho", str(found.rho), f"The same by ranks: {of}."),
    ]
    baselines = {name: column for name, column in _BASELINES.items() if both[column].notna().all()}
    for name, column in baselines.items():
        baseline = agreement(both[column], both.trained_test)
        gain = tau_difference(both.random_validation, both[column], both.trained_test)
        sentence = f"As a predictor instead (rho {baseline.rho}); tau-b of random filters less this one's is {gain}."
        lines.append((f"tau-b of the {name}", str(baseline.tau), sentence))
    lines.append(("linear on pixels (%)", percent(floor), "Test accuracy that an architecture has to exceed."))
    tops = [top for top in _TOPS if top < len(both)]
    without_runs = {name: regret(table, tops, column).regret for name, column in baselines.items()}
    for number, row in enumerate(regret(table, tops).to_dict("records")):
        instead = "".join(f"; by the {name}, {100 * lost[number]:.2f}" for name, lost in without_runs.items())
        sentence = (
            f"Points of test accuracy below the best of all when only the top {row['top']} by random filters are "
            f"trained, at {100 * row['cost']:.0f}% of the full cost{instead}; chosen at random, "
            f"{100 * row['by_chance']:.2f}."
        )
        lines.append((f"regret of the top {row['top']}", f"{100 * row['regret']:.2f}", sentence))
    share = _number(100 * cost_share(table), "{:.1f}")
    return [*lines, ("share of the cost (%)", share, "Seconds of the random arms over those of training all in full.")]
