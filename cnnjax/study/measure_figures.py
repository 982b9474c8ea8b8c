"""Figures of what the measures found: over magnitudes, over stages, over both, and along training."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from cnnjax.ops.transformations.table import TRANSFORMATIONS, find
from cnnjax.study.figures import MOST_ARMS_DRAWN, Picture, plain
from cnnjax.study.statistics import Estimate, estimate, estimate_measure

_COLUMNS = 4
# These have figures of their own.
_TRANSFER = "transfer/from "
_CONSISTENCY = "random_shift/consistency"
_CONSISTENCY_TITLE = "Accuracy and consistency"

_ATTACKED = ("fgsm_", "pgd_")
_NORMS = {"linf": "L∞", "l2": "L2"}

_SURVIVORS = "An image that fell to a smaller change counts as fallen to every greater one."

MEANINGS: dict[str, tuple[str, str]] = {
    "accuracy": ("accuracy", "The share of the images whose class is right."),
    "agreement": ("agreement", "The share of the images that keep the class given to them untouched."),
    "consistency": ("consistency", "The chance that two random shifts of an image are given the same class."),
    "success": (
        "success of the attack",
        "The share of the images that are given the class the attack aimed at, one of the others drawn for each image. "
        f"{_SURVIVORS}",
    ),
    "equivariance_error": (
        "equivariance error",
        "How far the stage's output for the changed image is from its changed output, relative to its size: 0 where "
        "the change passes through.",
    ),
    "invariance_error": (
        "invariance error",
        "How far the stage's output moves when the image is changed, relative to the distance between different "
        "images: 0 where nothing is noticed, 1 where it is as if it were another image.",
    ),
    "normalised_variance": (
        "normalised variance",
        "The variance of the stage's output along the transformation over that between images: 0 is invariant.",
    ),
    "goodfellow_top": (
        "Goodfellow's score",
        "How often the most invariant fifth of a stage's units fire on changed versions of the images that drive them "
        "most, over how often they fire on any images: 1 is chance, about 100 that they always still fire.",
    ),
    "goodfellow_whole": (
        "Goodfellow's score (whole set)",
        "How often the most invariant fifth of a stage's units fire on changed versions of all images, over how often "
        "they fire on untouched ones: 1 is as often, though not necessarily on the same images.",
    ),
    "lie_derivative": (
        "Lie derivative (relative)",
        "How fast the stage stops being equivariant as the image begins to change, relative to the size of its output.",
    ),
    "probe_accuracy": ("accuracy of a linear probe", "A ridge classifier fitted on the stage's output alone."),
    "cka": ("linear CKA", "How alike two representations of the same images are, whatever their rotation: 1 is alike."),
    "gradient_norm": ("norm of the gradient", "Of the loss with respect to each kernel, after training."),
    "output_gradient_norm": (
        "norm of the gradient",
        "Of the loss with respect to each stage's output, after training.",
    ),
    "gradient_norm_at_start": ("norm of the gradient", "Of the loss with respect to each kernel, before training."),
    "output_gradient_norm_at_start": (
        "norm of the gradient",
        "Of the loss with respect to each stage's output, before training; it vanishes if it falls towards the input.",
    ),
    "effective_receptive_field": (
        "standard deviation (pixels)",
        "How far about its centre a unit of the stage is moved by the input (Luo 2016).",
    ),
    "dead_units": ("dead units (share)", "Units of the stage that no image drives above 0."),
    "zero_share": ("zeros (share)", "Of the stage's output, over images and units."),
    "sparseness": ("sparseness", "Over images, averaged over units: 0 is even, 1 is one image in all."),
}
"""By a metric's last part: what its axis is called, and what it says."""


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
    return pictures + [picture for picture in (transfer_map(results), consistency_scatter(results)) if picture]


def too_many_to_draw(results: pd.DataFrame) -> list[str]:
    """The titles of the figures that `draw_measures` leaves out for the number of arms."""
    many = [metric for metric, rows in _by_metric(results) if rows.arm.nunique() > MOST_ARMS_DRAWN]
    return [
        _CONSISTENCY_TITLE if metric == _CONSISTENCY else _title(metric)
        for metric in many
        if not metric.startswith(_TRANSFER)
    ]


def _by_metric(results: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    measured = results[results.stage.notna() | results.magnitude.notna()]
    return ((str(metric), rows) for metric, rows in measured.groupby("metric", sort=False))


def transfer_map(results: pd.DataFrame) -> Picture | None:
    """How right each arm is about the adversarial images made for each; None where that was not measured."""
    rows = results[results.metric.str.startswith(_TRANSFER)]
    if rows.empty:
        return None
    makers = rows.metric.str.removeprefix(_TRANSFER).str.removesuffix("/accuracy")
    means = rows.assign(maker=makers).pivot_table("value", "arm", "maker", "mean", sort=False)
    arms = list(means.index)
    shares = means.reindex(columns=arms).to_numpy(float)
    figure = Figure(figsize=(3 + 0.7 * len(arms), 2.2 + 0.5 * len(arms)), layout="constrained")
    axes = figure.add_subplot()
    shown = axes.imshow(100 * shares, cmap="viridis", vmin=0, vmax=100)
    figure.colorbar(shown, label="accuracy (%)")
    for row, column in np.ndindex(*shares.shape):
        share = 100 * shares[row, column]
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", color="white" if share < 60 else "black")
    axes.set_xticks(range(len(arms)), [plain(arm) for arm in arms], rotation=45)
    axes.set_yticks(range(len(arms)), [plain(arm) for arm in arms])
    axes.set(xlabel="images made for", ylabel="shown to")
    sentence = (
        f"The accuracy of each arm (rows) on images that were changed by {rows.magnitude.iloc[0]:g} of the pixels' "
        "range (PGD in L∞) to fool each arm (columns); on the diagonal each is attacked itself. Mean over seeds."
    )
    return Picture("transfer", "Adversarial images for other arms", sentence, figure)


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


def _over_magnitudes(metric: str, rows: pd.DataFrame) -> Picture:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    _lines(axes, rows, "magnitude")
    axes.set(xlabel=_magnitude_label(metric), ylabel=_meaning(metric)[0])
    axes.legend(fontsize="small")
    return _picture(metric, rows, figure)


def _over_stages(metric: str, rows: pd.DataFrame) -> Picture:
    stages = list(dict.fromkeys(rows.stage))
    figure = Figure(figsize=(max(6.0, 1.5 + 0.55 * len(stages)), 4), layout="constrained")
    axes = figure.add_subplot()
    _lines(axes, rows.assign(place=rows.stage.map(stages.index)), "place")
    axes.set_xticks(range(len(stages)), [plain(stage) for stage in stages], rotation=45 if len(stages) > 6 else 0)
    axes.set(xlabel="stage", ylabel=_meaning(metric)[0])
    if "gradient_norm" in metric and (rows.value > 0).all():
        axes.set_yscale("log")
    axes.legend(fontsize="small")
    return _picture(metric, rows, figure)


def _over_both(metric: str, rows: pd.DataFrame) -> Picture:
    stages = list(dict.fromkeys(rows.stage))
    columns = min(_COLUMNS, len(stages))
    lines = -(-len(stages) // columns)
    figure = Figure(figsize=(1 + 2.6 * columns, 0.8 + 2.6 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes, stage in zip(grid.flat, stages, strict=False):
        _lines(axes, rows[rows.stage == stage], "magnitude")
        axes.set_title(plain(stage), fontsize="medium")
    for axes in list(grid.flat)[len(stages) :]:
        axes.set_visible(False)
    figure.supxlabel(_magnitude_label(metric), fontsize="medium")
    figure.supylabel(_meaning(metric)[0], fontsize="medium")
    grid[0, 0].legend(fontsize="x-small")
    return _picture(metric, rows, figure)


def _lines(axes: Axes, rows: pd.DataFrame, over: str) -> None:
    """A line for each arm: the mean over seeds, shaded with its interval; of one seed, with that over images."""
    for arm, mine in rows.groupby("arm", sort=False):
        places, mean, low, high = zip(*_estimates(mine, over), strict=True)
        (line,) = axes.plot(places, mean, marker=".", label=plain(str(arm)))
        axes.fill_between(places, low, high, color=line.get_color(), alpha=0.2, lw=0)
    axes.grid(alpha=0.3)


def _estimates(rows: pd.DataFrame, over: str) -> Iterable[tuple[Any, float, float, float]]:
    for place, group in rows.groupby(rows[over].astype(float)):
        found = estimate_measure(group)
        low, high = np.nan_to_num([found.low, found.high], nan=found.mean)
        yield place, found.mean, float(low), float(high)


def _meaning(metric: str) -> tuple[str, str]:
    """The axis's words and the sentence of a metric; its own name where none are written."""
    part = next((name for name in metric.split("/")[::-1] if name in MEANINGS), None)
    return MEANINGS[part] if part else (metric.replace("_", " "), "")


def _magnitude_label(metric: str) -> str:
    name = metric.split("/")[0]
    if name.partition("(")[0] in TRANSFORMATIONS:
        return f"{name.replace('_', ' ')} ({find(name).unit})"
    if name.endswith(("_l2", "_l2_targeted")):
        return "length of the change (in the pixels' range)"
    if name == "size":
        return "sides of the image, relative to those of training"
    return "size of the change (share of the pixels' range)"


def _picture(metric: str, rows: pd.DataFrame, figure: Figure) -> Picture:
    survivors = _SURVIVORS if metric.startswith(_ATTACKED) and metric.endswith("/accuracy") else ""
    sentence = " ".join(filter(None, (_meaning(metric)[1], survivors, _shading(rows))))
    return Picture(metric.replace("/", "_").replace(" ", "_"), _title(metric), sentence, figure)


def _title(metric: str) -> str:
    first, _, rest = metric.partition("/")
    if not rest:
        return metric.replace("_", " ").capitalize()
    words = _meaning(metric)[0]
    words = f"{words[0].upper()}{words[1:]}"
    if first == "cka":
        return f"{words} with {'the next seed' if rest == 'next seed' else rest}"
    if first == "size":
        return f"{words} at other sizes"
    return f"{words} under {_attack(first) if first.startswith(_ATTACKED) else first.replace('_', ' ')}"


def _attack(name: str) -> str:
    """`pgd_linf_targeted` in words."""
    method, norm, *aim = name.split("_")
    return f"{method.upper()} in {_NORMS[norm]}{' towards a target' if aim else ''}"


def _shading(rows: pd.DataFrame) -> str:
    """What the bands of a figure are."""
    many = rows.groupby("arm").seed.nunique() > 1
    if many.all():
        return "Mean over seeds, shaded with its 95% interval."
    alone = "its 95% interval over images" if rows.low.notna().any() else "nothing, for it has no interval over images"
    return f"Of one seed, shaded with {alone}{'; of several, the mean with its 95% interval' if many.any() else ''}."
