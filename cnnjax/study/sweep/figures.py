"""The figures of a sweep; see `cnnjax.study.sweep.ranking`."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cnnjax.study.figures import Picture, plain
from cnnjax.study.records import read_rows
from cnnjax.study.sweep.ranking import Standing, standings, units_by_arm
from cnnjax.study.sweep.spec import Choices, Dimension, Value, text_of
from cnnjax.study.workdir import Study

# The best is the darkest.
_COLOURS = matplotlib.colormaps["viridis_r"]


def draw_sweep(study: Study) -> list[Picture]:
    """Both figures of each swept arm that has trials with something to draw; none for a study that is no sweep."""
    pictures = []
    units = units_by_arm(study)
    for arm, dimensions in study.sweep.dimensions.items() if study.sweep else ():
        seen = [standing for standing in standings(study, arm) if standing.validation.seeds]
        if not seen:
            continue
        pictures.append(parallel_coordinates(arm, dimensions, seen))
        rows = {s.name: [pd.DataFrame(read_rows(unit.folder)) for unit in units[s.name]] for s in seen}
        if all("epoch" in seed for seeds in rows.values() for seed in seeds):  # a head in closed form has none
            pictures.append(trial_curves(arm, seen, rows))
    return pictures


def parallel_coordinates(arm: str, dimensions: Sequence[Dimension], seen: Sequence[Standing]) -> Picture:
    """A line for each trial through the values of its fields to its validation accuracy.

    Args:
      arm: that is swept.
      dimensions: its fields.
      seen: the trials that have an accuracy, the best first.
    """
    low, high = _span(seen)
    figure = Figure(figsize=(2.2 + 1.8 * len(dimensions), 4.2), layout="constrained")
    axes = figure.add_subplot()
    for standing in reversed(seen):
        accuracy = 100 * standing.validation.mean
        places = [place(dimension, standing.trial.point[dimension.field]) for dimension in dimensions]
        width = 2.5 if standing is seen[0] else 1.0
        places.append((accuracy - low) / (high - low))
        axes.plot(range(len(places)), places, color=_COLOURS(places[-1]), lw=width, alpha=0.8)
    for number, dimension in enumerate(dimensions):
        _axis(axes, number, {place(dimension, value): text_of(value) for value in _marks(dimension)})
    _axis(axes, len(dimensions), {0.0: f"{low:.1f}", 1.0: f"{high:.1f}"})
    names = [*(plain(dimension.field) for dimension in dimensions), "validation\naccuracy (%)"]
    axes.set_xticks(range(len(names)), names)
    axes.set(yticks=[], ylim=(-0.05, 1.05), xlim=(-0.2, len(dimensions) + 0.4))
    axes.set_frame_on(False)
    sentence = (
        f"Each line is one of {len(seen)} trials, through the values that it was trained with to the mean over seeds "
        "of its best validation accuracy, which its colour shows too; the best one is drawn thick."
    )
    return Picture(f"{arm}_trials", f"Trials of {arm}", sentence, figure)


def place(dimension: Dimension, value: Value) -> float:
    """Where a value lies between the lowest, 0, and the highest, 1, on its scale; choices are evenly spaced."""
    values = dimension.values
    if isinstance(values, Choices):
        return values.values.index(text_of(value)) / max(1, len(values.values) - 1)
    low, high, number = values.low, values.high, float(value)
    if values.scale == "log":
        low, high, number = math.log(low), math.log(high), math.log(number)
    return (number - low) / (high - low)


def _marks(dimension: Dimension) -> Sequence[Value]:
    values = dimension.values
    return values.values if isinstance(values, Choices) else (values.low, values.high)


def _axis(axes: Axes, number: int, marks: Mapping[float, str]) -> None:
    axes.axvline(number, color="black", lw=0.8)
    for height, text in marks.items():
        label = axes.annotate(text, (number, height), (4, 0), textcoords="offset points", fontsize="small", va="center")
        label.set(parse_math=False, bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 1})


def trial_curves(arm: str, seen: Sequence[Standing], rows: Mapping[str, Sequence[pd.DataFrame]]) -> Picture:
    """Validation accuracy of each trial along training, in the mean over seeds.

    Args:
      arm: that is swept.
      seen: the trials that have an accuracy, the best first.
      rows: of each trial, the metrics of each seed: epoch, split, accuracy.
    """
    low, high = _span(seen)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for standing in reversed(seen):
        curves = pd.concat(rows[standing.name])
        values = curves[curves.split == "validation"].groupby("epoch").accuracy.mean()
        best = standing is seen[0]
        colour = _COLOURS((100 * standing.validation.mean - low) / (high - low))
        label = plain(standing.name) if best else None
        axes.plot(values.index, 100 * values, color=colour, lw=2.5 if best else 1.0, marker=".", label=label)
    figure.colorbar(ScalarMappable(Normalize(low, high), _COLOURS), ax=axes, label="best validation accuracy (%)")
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy (%)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    sentence = (
        "Mean over seeds; a curve that ends early is that of a trial that was stopped. The best one is drawn thick."
    )
    return Picture(f"{arm}_trial_curves", f"Learning curves of the trials of {arm}", sentence, figure)


def _span(seen: Sequence[Standing]) -> tuple[float, float]:
    """The lowest and the highest accuracy in percent, and something between them."""
    accuracies = [100 * standing.validation.mean for standing in seen]
    low, high = min(accuracies), max(accuracies)
    return low, high if high > low else low + 1
