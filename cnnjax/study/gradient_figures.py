"""The figure of gradients along training, and what a logarithmic scale leaves out."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from cnnjax.study.figures import Picture, plain
from cnnjax.study.statistics import Estimate, estimate

_COLUMNS = 4


def gradient_curves(rows: Mapping[str, list[pd.DataFrame]]) -> Picture | None:
    """The gradient's norm by kernel along training, each arm in a field of its own; None where none was measured.

    Args:
      rows: for each arm, the metrics of each seed, among them `gradient_norm/<path>` in the network's order.
    """
    arms = {arm: curves for arm, seeds in rows.items() if not (curves := _gradients(pd.concat(seeds))).empty}
    if not arms:
        return None
    columns = min(_COLUMNS, len(arms))
    lines = -(-len(arms) // columns)
    figure = Figure(figsize=(1.6 + 2.6 * columns, 0.8 + 2.6 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes, (arm, curves) in zip(grid.flat, arms.items(), strict=False):
        depths = np.linspace(0, 1, len(curves.columns))
        for depth, (_, values) in zip(depths, curves.items(), strict=True):
            mean, low, high = (np.array([getattr(e, end) for e in values]) for end in ("mean", "low", "high"))
            colour, seen = colormaps["viridis"](depth), np.where(mean > 0, mean, np.nan)
            axes.plot(values.index, seen, marker=".", color=colour)
            # What an interval has below 0 has no place on the scale.
            axes.fill_between(values.index, np.where(low > 0, low, seen), high, color=colour, alpha=0.2, lw=0)
        axes.set_yscale("log")
        axes.set_title(plain(arm), fontsize="medium")
        axes.grid(alpha=0.3)
    for axes in list(grid.flat)[len(arms) :]:
        axes.set_visible(False)
    scale = figure.colorbar(ScalarMappable(cmap="viridis"), ax=grid, ticks=[0, 1])
    scale.ax.set_yticklabels(["first layer", "last layer"])
    figure.supxlabel("epoch", fontsize="medium")
    figure.supylabel("norm of the gradient", fontsize="medium")
    sentence = (
        "Of the training loss with respect to each kernel, a line for each, from the start on; the mean over seeds, "
        "shaded with the part of its 95% interval that is above 0. Where lines of the first layers fall far below "
        "those of the last, gradients vanish."
    )
    zeros = exactly_zero((arm, pd.concat(rows[arm])[list(curves)]) for arm, curves in arms.items())
    sentence = " ".join(filter(None, (sentence, zeros)))
    return Picture("gradients_along_training", "Gradients along training", sentence, figure)


def _gradients(rows: pd.DataFrame) -> pd.DataFrame:
    """By epoch and kernel, the estimate over seeds."""
    paths = [column for column in rows if str(column).startswith("gradient_norm/")]
    if not paths:
        return pd.DataFrame()
    measured = rows.dropna(subset=paths, how="all")
    return pd.DataFrame({path: measured.groupby("epoch")[str(path)].apply(_over_seeds) for path in paths})


def _over_seeds(values: pd.Series) -> Estimate:
    return estimate(values.dropna().tolist())


def exactly_zero(norms: Iterable[tuple[object, npt.ArrayLike]]) -> str:
    """A sentence on the norms, by arm, that have no place on a logarithmic scale; empty where none is 0. What is NaN
    was not measured."""
    found = []
    for arm, values in norms:
        array = np.asarray(values, float)
        if zeros := np.count_nonzero(array == 0):
            found.append(f"{zeros} of {np.count_nonzero(~np.isnan(array))} ({arm})")
    return f"Norms that are exactly 0 have no place on the scale: {', '.join(found)}." if found else ""
