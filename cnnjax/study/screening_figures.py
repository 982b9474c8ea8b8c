"""The figures of a screening of architectures; see `cnnjax.study.screening`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnnjax.study.figures import Picture
from cnnjax.study.rank_correlation import agreement
from cnnjax.study.screening import FLOOR_ARM, complete, cost_share, regret
from cnnjax.study.statistics import Estimate


def scatter(table: pd.DataFrame, floor: Estimate, top: int) -> Picture:
    """Test accuracy after training against validation accuracy with random filters, a point for each architecture.

    Args:
      table: see `cnnjax.study.screening.screening_table`; at least one architecture has both arms.
      floor: see `cnnjax.study.screening.linear_on_pixels`.
      top: how many of the best by random filters are marked.
    """
    both = complete(table)
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    shown = ((both[:top], "C1", f"the {min(top, len(both))} best by random filters"), (both[top:], "C0", "the others"))
    for rows, colour, label in shown:
        x, y = 100 * rows.random_validation, 100 * rows.trained_test
        across, along = _reach(rows, "random_validation"), _reach(rows, "trained_test")
        faint = (colour, 0.4)
        axes.errorbar(x, y, xerr=across, yerr=along, fmt="o", ms=5, color=colour, ecolor=faint, lw=0.8, label=label)
    for number, offset in {0: (4, -10), int(both.trained_test.argmax()): (4, 4)}.items():
        row = both.iloc[number]
        place = (100 * row.random_validation, 100 * row.trained_test)
        # A dollar in the user's name for it begins no formula.
        axes.annotate(row.architecture, place, offset, textcoords="offset points", fontsize="small", parse_math=False)
    levels = [floor.mean] if floor.seeds else []
    axes.set_xlim(*_frame(both.random_validation))
    axes.set_ylim(*_frame([*both.trained_test, *levels]))
    if floor.seeds:
        axes.axhline(100 * floor.mean, color="black", lw=0.8, ls="--", label=FLOOR_ARM)
    axes.set_xlabel("validation accuracy with random filters (%)")
    axes.set_ylabel("test accuracy after training (%)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    found = agreement(both.random_validation, both.trained_test)
    title = f"Random filters against training: Kendall tau-b {found.tau}, Spearman rho {found.rho}"
    sentence = (
        f"Each of the {len(both)} points is an architecture, at its mean accuracies over seeds, with their 95% "
        "intervals (Student's t, cut at the frame) where there are several; named are the best by random filters and "
        "the best after training. The intervals of tau-b and rho are percentiles of a bootstrap over architectures."
    )
    return Picture("screening", title, sentence, figure)


def _reach(rows: pd.DataFrame, column: str) -> np.ndarray:
    """How far the interval reaches below and above the mean [2, rows] in percent; NaN for one seed."""
    mean = rows[column]
    return 100 * np.stack([mean - rows[f"{column}_low"], rows[f"{column}_high"] - mean])


def _frame(values: Sequence[float] | pd.Series) -> tuple[float, float]:
    """Limits of an axis in percent that the points decide: intervals of two seeds may be wider than all of them."""
    margin = 0.15 * (max(values) - min(values)) or 0.01
    return 100 * (min(values) - margin), 100 * (max(values) + margin)


def regrets(table: pd.DataFrame) -> Picture:
    """Regret and cost of training only the k best by random filters, against k.

    Args:
      table: see `cnnjax.study.screening.screening_table`; at least one architecture has both arms.
    """
    lost = regret(table, range(1, len(complete(table)) + 1))
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(lost.top, 100 * lost.regret, marker=".", label="best by random filters")
    left.plot(lost.top, 100 * lost.by_chance, color="black", ls="--", label="chosen at random, in the mean")
    left.set_ylabel("regret (points of test accuracy)")
    left.legend(fontsize="small")
    right.plot(lost.top, 100 * lost.cost, marker=".")
    right.axhline(100, color="black", lw=0.8, ls="--")
    right.set_ylabel("cost (% of training all)")
    for axes in (left, right):
        axes.set_xlabel("architectures trained, k")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    sentence = (
        "Left: how far the best of the k trained architectures is below the best of all. Right: the seconds of all "
        "random arms and of the k trained ones, over the seconds of training all in full; the random arms alone take "
        f"{100 * cost_share(table):.1f}%."
    )
    return Picture("regret", "What training only the best by random filters loses and costs", sentence, figure)


def draw_screening(table: pd.DataFrame, floor: Estimate, top: int) -> list[Picture]:
    """Both figures; none before an architecture has both arms. See the functions above."""
    return [] if complete(table).empty else [scatter(table, floor, top), regrets(table)]
