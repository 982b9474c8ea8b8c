"""The measures that are pictures: what drives the units and the classes of a run."""

from collections.abc import Callable

import jax
import numpy as np

from cnnjax.analysis.activation_maximisation import activation_maximisation
from cnnjax.analysis.class_activation import grad_cam
from cnnjax.analysis.deconvolution import deconvolution
from cnnjax.analysis.findings import Finding
from cnnjax.analysis.fooling import fooling_by_evolution, fooling_by_gradient
from cnnjax.analysis.occasion import Measured, Occasion
from cnnjax.analysis.occlusion import occlusion
from cnnjax.analysis.saliency import saliency
from cnnjax.analysis.strongest import strongest, strongest_patches
from cnnjax.analysis.subject import stage_outputs

SHOWN_IMAGES, SHOWN_UNITS = 8, 8


def _feature_maps(occasion: Occasion) -> Measured:
    """The first units' maps of the first image, for each stage with positions."""
    outputs = jax.jit(stage_outputs)(occasion.subject, occasion.images[:1])
    stages = occasion.spatial_stages
    maps = {stage: np.moveaxis(np.asarray(outputs[stage][0]), -1, 0)[:SHOWN_UNITS] for stage in stages}
    return Measured([], {"image": occasion.images[:1], **maps})


def _strongest(occasion: Occasion) -> Measured:
    """Of the images that drive the first units of each stage most, the patches; where a unit sees all of an image, as
    the head's do, the images: [units, k, ...]."""
    arrays = {}
    stages, size = occasion.subject.model.stage_names, occasion.settings.batch_size
    found = strongest(occasion.subject, occasion.images, stages, batch_size=size)
    for stage, best in found.items():
        arrays[stage] = strongest_patches(occasion.subject, occasion.images, best.of_units(SHOWN_UNITS))
    return Measured([], arrays)


def _activation_maximisation(occasion: Occasion) -> Measured:
    """For the first units of each stage, the head's classes among them, the image that drives it most."""
    shape = occasion.images.shape[1:]
    outputs = jax.eval_shape(stage_outputs, occasion.subject, jax.ShapeDtypeStruct((1, *shape), np.float32))
    stages = occasion.subject.model.stage_names
    units = [(stage, unit) for stage in stages for unit in range(min(10, outputs[stage].shape[-1]))]
    found = activation_maximisation(occasion.subject, shape, units, occasion.key)
    return Measured([], {stage: found[[own == stage for own, _ in units]] for stage in stages})


def _first(occasion: Occasion) -> tuple[np.ndarray, np.ndarray]:
    return occasion.images[:SHOWN_IMAGES], np.asarray(occasion.labels[:SHOWN_IMAGES])


def _saliency(occasion: Occasion) -> Measured:
    images, classes = _first(occasion)
    return Measured([], {"image": images, "saliency": saliency(occasion.subject, images, classes)})


def _occlusion(occasion: Occasion) -> Measured:
    """A square of a quarter of the image's side, moved by an eighth."""
    images, classes = _first(occasion)
    side = min(images.shape[1:-1])
    size, stride = max(1, side // 4), max(1, side // 8)
    return Measured(
        [], {"image": images, "probability": occlusion(occasion.subject, images, classes, size=size, stride=stride)}
    )


def _deconvolution(occasion: Occasion) -> Measured:
    """The first image's activations of the first units of each stage with positions, brought back to the pixels."""
    outputs = jax.eval_shape(
        stage_outputs, occasion.subject, jax.ShapeDtypeStruct(occasion.images[:1].shape, np.float32)
    )
    arrays = {"image": occasion.images[:1]}
    for stage in occasion.spatial_stages:
        units = list(range(min(SHOWN_UNITS, outputs[stage].shape[-1])))
        arrays[stage] = deconvolution(occasion.subject, occasion.images[:1], stage, units)[0]
    return Measured([], arrays)


def _class_activation(occasion: Occasion) -> Measured:
    """The class activation map (in its general form, Grad-CAM) of the last stage that has positions."""
    images, classes = _first(occasion)
    if not occasion.spatial_stages:
        return Measured([])
    maps = grad_cam(occasion.subject, images, classes, occasion.spatial_stages[-1])
    return Measured([], {"image": images, "map": maps})


def _fooling(occasion: Occasion) -> Measured:
    """`fooling by <way>`: the mean over classes of the softmax's probability of the class that an image from noise was
    made for, in [0, 1] (Nguyen 2015); and the images."""
    shape = occasion.images.shape[1:]
    findings: list[Finding] = []
    arrays: dict[str, np.ndarray] = {}
    for name, function in (("gradient", fooling_by_gradient), ("evolution", fooling_by_evolution)):
        found = function(occasion.subject, shape, occasion.key)
        arrays |= {name: found.images, f"{name} confidence": found.confidence}
        findings.append(Finding(f"fooling by {name}", float(found.confidence.mean())))
    return Measured(findings, arrays)


PICTURES: dict[str, Callable[[Occasion], Measured]] = {
    "feature_maps": _feature_maps,
    "strongest": _strongest,
    "activation_maximisation": _activation_maximisation,
    "saliency": _saliency,
    "occlusion": _occlusion,
    "deconvolution": _deconvolution,
    "class_activation": _class_activation,
    "fooling": _fooling,
}
"""Arrays of images by name; see the functions above."""
