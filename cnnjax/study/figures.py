"""The figures of a study, by Matplotlib, without a screen and without its global state."""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
from etils import epath
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from cnnjax.study.statistics import Estimate, estimate

_FILTERS_SHOWN = 16
MOST_ARMS_DRAWN = 24
"""With more arms, a figure with a curve or a row of filters for each is not drawn."""

# What numbers of the config are called in a figure, where their field's last part does not say it.
_NUMBERS = {"data.examples": "training examples", "optim.lr": "learning rate"}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure with its title, and a sentence that says how to read it."""

    name: str
    title: str
    sentence: str
    figure: Figure


def accuracies(summary: pd.DataFrame, chance: float) -> Picture:
    """Test accuracy of each arm as a point with its interval.

    Args:
      summary: see `cnnjax.study.results.summarise`.
      chance: accuracy of guessing, in [0, 1].
    """
    figure = Figure(figsize=(7, 1.2 + 0.45 * len(summary)), layout="constrained")
    axes = figure.add_subplot()
    for place, value in enumerate(summary.accuracy):
        if value.seeds == 0:
            continue
        reach = [[100 * (value.mean - value.low)], [100 * (value.high - value.mean)]] if value.seeds > 1 else None
        axes.errorbar(100 * value.mean, place, xerr=reach, fmt="o", capsize=4)
    axes.set_yticks(range(len(summary)), [plain(arm) for arm in summary.arm])
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy (%)")
    axes.grid(axis="x", alpha=0.3)
    title = "Test accuracy of each arm"
    sentence = (
        "Each point is the mean over seeds at the evaluation with the best validation accuracy; the bar is its 95% "
        f"interval (Student's t). Guessing would reach {100 * chance:.0f}%."
    )
    return Picture("accuracies", title, sentence, figure)


def accuracy_lines(summary: pd.DataFrame, field: str, lines: Mapping[str, Mapping[str, float]]) -> Picture:
    """Test accuracy over a number that arms differ in.

    Args:
      summary: see `cnnjax.study.results.summarise`.
      field: the number's path in the config.
      lines: by the name of each line, its arms and their numbers.
    """
    found = {row["arm"]: row["accuracy"] for row in summary.to_dict("records")}
    sentence = f"Mean over seeds with its 95% interval, over {field}."
    title = f"Test accuracy over {number_name(field)}"
    return Picture("lines", title, sentence, _lines_over(found, field, lines, "test accuracy (%)"))


def column_lines(
    found: Mapping[str, Estimate], heading: str, field: str, lines: Mapping[str, Mapping[str, float]]
) -> Picture:
    """What was measured of each arm, over a number that arms differ in.

    Args:
      found: by arm.
      heading: of the column; one that ends in `(%)` is of shares.
      field, lines: as in `accuracy_lines`.
    """
    name = re.sub(r"\W+", "_", f"lines_{heading}").strip("_")
    subject = heading.removesuffix(" (%)")
    title = f"{subject[0].upper()}{subject[1:]}, over {number_name(field)}"
    sentence = f"Mean over seeds with its 95% interval (of one seed, over images), over {field}."
    return Picture(name, title, sentence, _lines_over(found, field, lines, heading))


def number_name(field: str) -> str:
    """What a number of the config is called in a title."""
    return _NUMBERS.get(field, field.rpartition(".")[2].replace("_", " "))


def _lines_over(
    found: Mapping[str, Estimate], field: str, lines: Mapping[str, Mapping[str, float]], quantity: str
) -> Figure:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    scale = 100 if quantity.endswith("(%)") else 1
    for name, numbers in lines.items():
        mine = {arm: found[arm] for arm in numbers if arm in found and found[arm].seeds}
        mean, low, high = ([scale * getattr(e, at) for e in mine.values()] for at in ("mean", "low", "high"))
        reach = np.array([np.subtract(mean, low), np.subtract(high, mean)])
        axes.errorbar([numbers[arm] for arm in mine], mean, yerr=reach, marker="o", capsize=3, label=plain(name))
    if all(number > 0 for numbers in lines.values() for number in numbers.values()):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(plain(number_name(field)))
    axes.set_ylabel(plain(quantity))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def learning_curves(rows: Mapping[str, list[pd.DataFrame]]) -> Picture:
    """Accuracy on the validation and the training split along training.

    Args:
      rows: for each arm, the metrics of each seed: step, epoch, split, accuracy.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    for axes, split in zip(both, ("train", "validation"), strict=True):
        for arm, seeds in rows.items():
            curves = pd.concat(seeds)
            if "epoch" not in curves:  # a head in closed form has no epochs
                continue
            curves = curves[curves.split == split].dropna(subset="accuracy")  # of gradients there is a row of its own
            values = curves.groupby("epoch").accuracy.apply(lambda v: estimate(list(v)))
            mean, low, high = (100 * values.map(lambda e, at=at: getattr(e, at)) for at in ("mean", "low", "high"))
            (line,) = axes.plot(values.index, mean, marker="." if len(values) < 30 else None, label=plain(arm))
            shade = {"color": line.get_color(), "alpha": 0.2, "lw": 0}
            axes.fill_between(values.index, low.fillna(mean), high.fillna(mean), **shade)
        axes.set_title(f"{split} split")
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    both[0].set_ylabel("accuracy (%)")
    both[1].legend(fontsize="small")
    sentence = (
        "Mean over seeds, shaded with its 95% interval. The training curve is what the steps saw on the way, "
        "the validation curve is measured at its end."
    )
    return Picture("learning_curves", "Learning curves", sentence, figure)


def first_filters(kernels: Mapping[str, np.ndarray]) -> Picture:
    """The first convolution's kernels of each arm.

    Args:
      kernels: [*window, C, F] by arm, of one or two spatial dimensions.
    """
    shown = {arm: np.moveaxis(kernel, -1, 0)[:_FILTERS_SHOWN] for arm, kernel in kernels.items()}
    columns = max(len(filters) for filters in shown.values())
    figure = Figure(figsize=(1.4 + 0.5 * columns, 0.9 + 0.62 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), columns, squeeze=False)
    for line, (arm, filters) in zip(grid, shown.items(), strict=True):
        bound = float(np.abs(filters).max()) or 1.0
        for axes, kernel in zip(line, filters, strict=False):
            if kernel.ndim == 3:
                axes.imshow(kernel.mean(-1), cmap="RdBu", vmin=-bound, vmax=bound)
            else:
                axes.plot(kernel.mean(-1), color="black", lw=1)
                axes.set_ylim(-bound, bound)
        for axes in line:
            axes.set(xticks=[], yticks=[])
            axes.set_frame_on(False)
        line[0].set_ylabel(plain(arm), rotation=0, ha="right", va="center")
    sentence = (
        "The kernels of the first convolution of the first seed, as trained or as drawn, averaged over input "
        "channels; blue is positive, red negative, white 0, and each arm has its own scale."
    )
    return Picture("filters", "First filters of each arm", sentence, figure)


def draw(
    summary: pd.DataFrame,
    rows: Mapping[str, list[pd.DataFrame]],
    kernels: Mapping[str, np.ndarray],
    chance: float,
) -> list[Picture]:
    """All figures that there is something to draw in; see the functions above."""
    pictures = [accuracies(summary, chance)]
    if any("epoch" in seed for seeds in rows.values() for seed in seeds) and len(rows) <= MOST_ARMS_DRAWN:
        pictures.append(learning_curves(rows))
    drawable = {arm: kernel for arm, kernel in kernels.items() if kernel.ndim in (3, 4)}
    if drawable:
        pictures.append(first_filters(drawable))
    return pictures


def save(picture: Picture, folder: epath.Path) -> bytes:
    """Writes `NAME.svg` and `NAME.png` into a folder and returns the SVG."""
    FigureCanvasSVG(picture.figure)
    for form in ("svg", "png"):
        with (folder / f"{picture.name}.{form}").open("wb") as file:
            picture.figure.savefig(file, format=form, dpi=150)
    return (folder / f"{picture.name}.svg").read_bytes()


def plain(text: str) -> str:
    """The text with nothing in it that Matplotlib would read as a formula."""
    return text.replace("$", r"\$")
