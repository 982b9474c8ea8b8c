"""Figures of what the measures found: over magnitudes, over stages, over both, and of arms against arms."""

import itertools
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnjax.study.figures import MOST_ARMS_DRAWN, Picture, plain
from cnnjax.study.gradient_figures import exactly_zero
from cnnjax.study.measure_words import axis_label, explanation, magnitude_label, title
from cnnjax.study.statistics import estimate_measure

_COLUMNS = 4
_MOST_STAGES_NAMED = 16
_MOST_ARMS_IN_A_FIELD = 8
# Ten colours, and the same again.
_STYLES = ("-", "--", ":")
# These have figures of their own.
_TRANSFER = "transfer/from "
_TRANSFER_TITLE = "Adversarial images for other arms"
_CONSISTENCY = "random_shift/consistency"
_CONSISTENCY_TITLE = "Accuracy and consistency"


def draw_measures(results: pd.DataFrame) -> list[Picture]:
    """A figure for each metric that has a stage or a magnitude.

    Args:
      results: with the columns of `cnnjax.study.results.COLUMNS`.
    """
    pictures = []
    for metric, rows in _by_metric(results):
        if rows.arm.nunique() > MOST_ARMS_DRAWN or metric == _CONSISTENCY or metric.startswith(_TRANSFER):
            continue
        if rows.stage.isna().all():
            pictures.append(_over_magnitudes(metric, rows))
        elif rows.magnitude.isna().all():
            pictures.append(_over_stages(metric, rows))
        else:
            pictures.append(_over_both(metric, rows))
    scatter = consistency_scatter(results)
    return [*pictures, *transfer_maps(results), *([scatter] if scatter else [])]


def too_many_to_draw(results: pd.DataFrame) -> list[str]:
    """The titles of the figures that `draw_measures` leaves out for the number of arms."""
    many = [metric for metric, rows in _by_metric(results) if rows.arm.nunique() > MOST_ARMS_DRAWN]
    return list(dict.fromkeys(map(_figure_title, many)))


def _figure_title(metric: str) -> str:
    if metric.startswith(_TRANSFER):
        return _TRANSFER_TITLE
    return _CONSISTENCY_TITLE if metric == _CONSISTENCY else title(metric)


def _by_metric(results: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    measured = results[results.stage.notna() | results.magnitude.notna()]
    return ((str(metric), rows) for metric, rows in measured.groupby("metric", sort=False))


def transfer_maps(results: pd.DataFrame) -> list[Picture]:
    """How right each arm is about the adversarial images made for each, a map for each size of the change; none where
    that was not measured, or of too many arms."""
    rows = results[results.metric.str.startswith(_TRANSFER)]
    makers = rows.metric.str.removeprefix(_TRANSFER).str.removesuffix("/accuracy")
    rows = rows.assign(maker=makers)
    if rows.arm.nunique() > MOST_ARMS_DRAWN:
        return []
    sizes = rows.magnitude.astype(float).drop_duplicates()
    return [_transfer_map(rows[rows.magnitude == size], size, alone=len(sizes) == 1) for size in sizes]


def _transfer_map(rows: pd.DataFrame, size: float, *, alone: bool) -> Picture:
    arms = list(dict.fromkeys(rows.arm))
    makers = list(dict.fromkeys([*arms, *rows.maker]))
    found = {pair: estimate_measure(group) for pair, group in rows.groupby(["arm", "maker"])}
    shares = np.full((len(arms), len(makers)), np.nan)
    figure = Figure(figsize=(3 + 0.8 * len(makers), 2.2 + 0.5 * len(arms)), layout="constrained")
    axes = figure.add_subplot()
    for (arm, maker), share in found.items():
        row, column = arms.index(arm), makers.index(maker)
        shares[row, column] = 100 * share.mean
        interval = "" if np.isnan(share.low) else f"\n[{100 * share.low:.0f}, {100 * share.high:.0f}]"
        text, colour = f"{100 * share.mean:.0f}{interval}", "white" if share.mean < 0.6 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize="x-small")
    shown = axes.imshow(shares, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    figure.colorbar(shown, label="accuracy (%)")
    axes.set_xticks(range(len(makers)), [plain(maker) for maker in makers], rotation=45)
    axes.set_yticks(range(len(arms)), [plain(arm) for arm in arms])
    axes.set(xlabel="images made for", ylabel="shown to")
    sentence = (
        f"The accuracy of each arm (rows) on images that were changed by {size:g} of the pixels' range (PGD in L∞) to "
        "fool each arm (columns); where both are one, it is attacked itself. Mean over seeds, in brackets with its 95% "
        "interval; of one seed, with that over images. What was not measured is blank."
    )
    name, heading = ("transfer", _TRANSFER_TITLE) if alone else (f"transfer_{size:g}", f"{_TRANSFER_TITLE}: {size:g}")
    return Picture(name, heading, sentence, figure)


def consistency_scatter(results: pd.DataFrame) -> Picture | None:
    """Test accuracy over consistency, a point for each arm; None where consistency was not measured."""
    rows = results[results.metric == _CONSISTENCY]
    if rows.empty or rows.arm.nunique() > MOST_ARMS_DRAWN:
        return None
    accuracies = results[(results.metric == "accuracy") & (results.split == "test")]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for arm, mine in rows.groupby("arm", sort=False):
        across, up = (estimate_measure(found) for found in (mine, accuracies[accuracies.arm == arm]))
        reach = [100 * np.nan_to_num([[e.mean - e.low], [e.high - e.mean]]) for e in (across, up)]
        axes.errorbar(100 * across.mean, 100 * up.mean, xerr=reach[0], yerr=reach[1], fmt="o", label=plain(str(arm)))
    axes.set(xlabel="consistency under random shifts (%)", ylabel="test accuracy (%)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small", ncols=2)
    sentence = (
        "A network that gives shifted images the same class need not give them the right one: an arm for each point, "
        "mean over seeds with 95% intervals; of one seed, those over images."
    )
    return Picture("accuracy_over_consistency", _CONSISTENCY_TITLE, sentence, figure)


def _over_magnitudes(metric: str, rows: pd.DataFrame) -> Picture:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    _lines(axes, rows, "magnitude")
    axes.set(xlabel=magnitude_label(metric), ylabel=axis_label(metric))
    _name_lines(figure)
    return _picture(metric, rows, figure)


def _over_stages(metric: str, rows: pd.DataFrame) -> Picture:
    stages = _in_order(rows)
    named = 0 < len(stages) <= _MOST_STAGES_NAMED
    figure = Figure(figsize=(max(7.0, 1.5 + 0.55 * len(stages)) if named else 7, 4), layout="constrained")
    axes = figure.add_subplot()
    if "gradient_norm" in metric:
        axes.set_yscale("log")
    axes.set_ylabel(axis_label(metric))
    if named:
        _lines(axes, rows.assign(place=rows.stage.map(stages.index)), "place")
        axes.set_xticks(range(len(stages)), [plain(stage) for stage in stages], rotation=45 if len(stages) > 6 else 0)
        axes.set_xlabel("stage")
        over = ""
    else:
        _lines(axes, rows.assign(place=_depths(rows)), "place")
        axes.set_xlabel("depth, relative to that of the network")
        over = "Each arm is drawn over its own depth: 0 is the first of its layers, 1 the last."
    _name_lines(figure)
    zeros = exactly_zero(rows.groupby("arm", sort=False).value) if _logarithmic(axes) else ""
    return _picture(metric, rows, figure, over, zeros)


def _in_order(rows: pd.DataFrame) -> list[str]:
    """The stages of all arms, each behind those that it is behind in any arm; none where two arms contradict one
    another."""
    order = TopologicalSorter[str]()
    for _, mine in rows.groupby("arm", sort=False):
        stages = list(dict.fromkeys(mine.stage))
        order.add(stages[0])
        for before, stage in itertools.pairwise(stages):
            order.add(stage, before)
    try:
        return list(order.static_order())
    except CycleError:
        return []


def _depths(rows: pd.DataFrame) -> list[float]:
    """Of each row the place of its stage among those of its arm, from 0 to 1: an only one is the last."""
    depths: dict[tuple[object, str], float] = {}
    for arm, mine in rows.groupby("arm", sort=False):
        stages = list(dict.fromkeys(mine.stage))
        places = np.linspace(1, 0, len(stages))[::-1].tolist()
        depths |= {(arm, stage): place for stage, place in zip(stages, places, strict=True)}
    return [depths[key] for key in zip(rows.arm, rows.stage, strict=True)]


def _over_both(metric: str, rows: pd.DataFrame) -> Picture:
    stages = _in_order(rows) or list(dict.fromkeys(rows.stage))
    columns = min(_COLUMNS, len(stages))
    lines = -(-len(stages) // columns)
    figure = Figure(figsize=(1 + 2.6 * columns, 0.8 + 2.6 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes, stage in zip(grid.flat, stages, strict=False):
        _lines(axes, rows[rows.stage == stage], "magnitude")
        axes.set_title(plain(stage), fontsize="medium")
    for axes in list(grid.flat)[len(stages) :]:
        axes.set_visible(False)
    figure.supxlabel(magnitude_label(metric), fontsize="medium")
    figure.supylabel(axis_label(metric), fontsize="medium")
    grid[0, 0].legend(fontsize="x-small")
    return _picture(metric, rows, figure)


def _lines(axes: Axes, rows: pd.DataFrame, over: str) -> None:
    """A line for each arm: the mean over seeds, shaded with its interval; of one seed, with that over images. On a
    logarithmic scale what is not above 0 is left out."""
    least = 0 if _logarithmic(axes) else -np.inf
    for number, (arm, mine) in enumerate(rows.groupby("arm", sort=False)):
        places, mean, low, high = map(np.array, zip(*_estimates(mine, over), strict=True))
        mean = np.where(mean > least, mean, np.nan)
        colour, style = f"C{number % 10}", _STYLES[number // 10]
        size = 6 if len(places) <= _MOST_STAGES_NAMED else 3
        axes.plot(places, mean, marker=".", ms=size, color=colour, ls=style, label=plain(str(arm)))
        axes.fill_between(places, np.where(low > least, low, mean), high, color=colour, alpha=0.2, lw=0)
    axes.grid(alpha=0.3)


def _logarithmic(axes: Axes) -> bool:
    return axes.get_yscale() == "log"


def _name_lines(figure: Figure) -> None:
    """A legend, beside the field where it would cover it."""
    (axes,) = figure.axes
    if len(axes.lines) <= _MOST_ARMS_IN_A_FIELD:
        axes.legend(fontsize="small")
        return
    width, height = figure.get_size_inches()
    figure.set_size_inches(width + 2, height)
    figure.legend(loc="outside right upper", fontsize="x-small", handlelength=4)


def _estimates(rows: pd.DataFrame, over: str) -> Iterable[tuple[float, float, float, float]]:
    for place, group in rows.groupby(rows[over].astype(float)):
        found = estimate_measure(group)
        low, high = np.nan_to_num([found.low, found.high], nan=found.mean)
        yield float(place), found.mean, float(low), float(high)


def _picture(metric: str, rows: pd.DataFrame, figure: Figure, *more: str) -> Picture:
    sentence = " ".join(filter(None, (explanation(metric), *more, _shading(rows))))
    return Picture(metric.replace("/", "_").replace(" ", "_"), title(metric), sentence, figure)


def _shading(rows: pd.DataFrame) -> str:
    """What the bands of a figure are."""
    many = rows.groupby("arm").seed.nunique() > 1
    if many.all():
        return "Mean over seeds, shaded with its 95% interval."
    alone = "its 95% interval over images" if rows.low.notna().any() else "nothing, for it has no interval over images"
    return f"Of one seed, shaded with {alone}{'; of several, the mean with its 95% interval' if many.any() else ''}."
