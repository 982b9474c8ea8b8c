"""Figures of images: what drives a run's units and classes."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnnjax.study.figures import Picture, plain

_MOST_COLUMNS = 10
_MOST_CLASSES_COUNTED = 20

# Maps whose scale is written above each of them.
_WITH_RANGES = (
    "feature_maps",
    "activation_maximisation",
    "saliency",
    "occlusion",
    "deconvolution",
    "class_activation",
)

# Of each picture: its title, and how to read it. A row is an array of the measure, unless said.
WORDS: dict[str, tuple[str, str]] = {
    "feature_maps": (
        "Feature maps",
        "The first image of the split, and the output of the first units of each stage for it, from black to white as "
        "written.",
    ),
    "strongest": (
        "Images and patches that drive units most",
        "For the first units of each stage (columns) the patches that drive the unit most, the strongest first; whole "
        "images where a unit sees all of them.",
    ),
    "activation_maximisation": (
        "Images made to drive units most",
        "Found by gradient ascent from noise, for the first units of each stage (columns); those of the last are the "
        "classes. From the least to the greatest pixel as written.",
    ),
    "saliency": (
        "Saliency",
        "Images, and how much each pixel moves the logit of the true class: the size of its gradient, from black to "
        "white as written, in logits for a unit of the pixel.",
    ),
    "occlusion": (
        "Occlusion",
        "Images, and the probability of the true class when a square of the mean grey covers the place, from black to "
        "white as written; dark is where the class is lost.",
    ),
    "deconvolution": (
        "Deconvolution",
        "The first image, and the strongest activation of the first units of each stage (columns) sent back to the "
        "pixels, from the least to the greatest value as written.",
    ),
    "class_activation": (
        "Class activation",
        "Images, and where the last stage with positions sees evidence for the true class (Grad-CAM), from black to "
        "white as written, in logits.",
    ),
    "fooling": (
        "Fooling images",
        "Images made from noise to be taken for each class in turn (columns), by gradient ascent and by evolution, and "
        "how sure the network is of that class.",
    ),
    "receptive_field": (
        "Effective receptive field",
        "How much each pixel moves the unit in the middle of each stage, the mean over images of its gradient's size "
        "(Luo 2016), from black to white as written, for a standardised pixel.",
    ),
}


def draw_images(arm: str, arrays: Mapping[str, np.ndarray], dimensions: int) -> list[Picture]:
    """The pictures of one run.

    Args:
      arm: of the run.
      arrays: by `MEASURE/ARRAY`, see `cnnjax.study.findings.read_arrays`.
      dimensions: spatial ones of the images: 1 for signals. Of volumes the middle slice is shown.
    """
    pictures = []
    for name, (title, sentence) in WORDS.items():
        rows = {key.split("/", 1)[1]: array for key, array in arrays.items() if key.split("/", 1)[0] == name}
        captions: dict[str, list[str]] = {}
        if name == "strongest":
            rows = {stage: _mosaics(patches, dimensions) for stage, patches in rows.items()}
        elif name == "fooling":
            sure = {row: rows.pop(f"{row} confidence") for row in list(rows) if f"{row} confidence" in rows}
            captions = {row: [f"{value:.0%}" for value in values] for row, values in sure.items()}
        elif name == "receptive_field" and rows:
            captions = {"stages": [f"{plain(stage)}\n{_range(array)}" for stage, array in rows.items()]}
            rows = {"stages": np.stack(list(rows.values()))}
        elif name in _WITH_RANGES:
            captions = {row: list(map(_range, array)) for row, array in rows.items() if row != "image"}
        if rows:
            figure = _rows(rows, captions, min(dimensions, 2) if name == "strongest" else dimensions)
            pictures.append(Picture(f"{name}_{arm}", f"{title}: {arm}", f"{sentence} Of the first seed.", figure))
    return pictures


def confusion(arm: str, matrix: np.ndarray) -> Picture:
    """The confusion matrix of one run as a map, of few classes with its counts.

    Args:
      arm: of the run.
      matrix: counts [true, predicted].
    """
    side = max(4.0, 1.5 + 0.45 * min(len(matrix), _MOST_CLASSES_COUNTED))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(matrix) <= _MOST_CLASSES_COUNTED:
        for row, column in np.ndindex(*matrix.shape):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize="small")
        axes.set_xticks(range(len(matrix)))
        axes.set_yticks(range(len(matrix)))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.set(xlabel="class predicted", ylabel="true class")
    sentence = "How many images of each true class (rows) were given each class; the shade is the share of the row."
    return Picture(f"confusion_{arm}", f"Confusion matrix: {arm}", f"{sentence} Of the first seed.", figure)


def similarity(arm: str, matrix: np.ndarray, stages: Sequence[str]) -> Picture:
    """The similarity of all pairs of stages of one run as a map with its values.

    Args:
      arm: of the run.
      matrix: linear CKA [stages, stages].
      stages: their names.
    """
    figure = Figure(figsize=(2.5 + 0.6 * len(stages), 1.8 + 0.6 * len(stages)), layout="constrained")
    axes = figure.add_subplot()
    shown = axes.imshow(matrix, cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(shown, label="linear CKA")
    for row, column in np.ndindex(*matrix.shape) if len(stages) <= 12 else ():
        colour = "white" if matrix[row, column] < 0.6 else "black"
        axes.text(column, row, f"{matrix[row, column]:.2f}", ha="center", va="center", color=colour, fontsize="small")
    names = [plain(stage) for stage in stages]
    axes.set_xticks(range(len(names)), names, rotation=45)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="stage", ylabel="stage")
    sentence = "How alike what two stages make of the same images is, whatever its rotation and scale: 1 is alike."
    return Picture(f"similarity_{arm}", f"Similarity of stages: {arm}", f"{sentence} Of the first seed.", figure)


def _range(image: np.ndarray) -> str:
    return f"{image.min():.2g} to {image.max():.2g}"


def _mosaics(patches: np.ndarray, dimensions: int) -> np.ndarray:
    """For each unit its k patches [units, k, *sizes, C], as many as make a square, side by side with a line between
    them: [units, side, side, C]; signals above one another: [units, size, k C]."""
    if dimensions == 1:
        return np.moveaxis(patches, 1, 2).reshape(len(patches), patches.shape[2], -1)
    for _ in range(dimensions - 2):
        patches = patches[:, :, patches.shape[2] // 2]
    side = math.isqrt(patches.shape[1])
    lined = np.pad(
        patches[:, : side**2], ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)), constant_values=float(patches.max())
    )
    height, width, channels = lined.shape[2:]
    grid = lined.reshape(len(lined), side, side, height, width, channels).swapaxes(2, 3)
    return grid.reshape(len(lined), side * height, side * width, channels)[:, :-1, :-1]


def _rows(rows: Mapping[str, np.ndarray], captions: Mapping[str, Sequence[str]], dimensions: int) -> Figure:
    """A row of images, or of curves where they have one dimension, for each array [N, *spatial] or [N, *spatial, C];
    above the images of some rows, their captions."""
    columns = min(_MOST_COLUMNS, max(len(array) for array in rows.values()))
    height = sum(1.1 if name in captions else 0.95 for name in rows)
    figure = Figure(figsize=(1.6 + 0.9 * columns, 0.3 + height), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, array) in zip(grid, rows.items(), strict=True):
        for axes in line:
            axes.set(xticks=[], yticks=[])
            axes.set_frame_on(False)
        for axes, image in zip(line, array, strict=False):
            _show(axes, np.asarray(image, np.float32), dimensions)
        for axes, caption in zip(line, captions.get(name, ()), strict=False):
            axes.set_title(caption, fontsize="xx-small", pad=2)
        line[0].set_ylabel(plain(name), rotation=0, ha="right", va="center")
    return figure


def _show(axes: Axes, image: np.ndarray, dimensions: int) -> None:
    """An image [*spatial] or [*spatial, C], on its own scale; in colours where C is 3, of others the first channel."""
    if dimensions == 1:
        axes.plot(image, lw=1)
        return
    for _ in range(dimensions - 2):
        image = image[len(image) // 2]
    if image.ndim == 3 and image.shape[-1] != 3:
        image = image[..., 0]
    low, high = float(image.min()), float(image.max())
    axes.imshow((image - low) / ((high - low) or 1), cmap="gray", vmin=0, vmax=1)
