"""Transformations of images and signals, differentiable in their magnitude; at magnitude 0 each is the identity."""

from cnnjax.ops.transformations.corruptions import clutter, noise, occlusion
from cnnjax.ops.transformations.elastic import elastic, smooth_field
from cnnjax.ops.transformations.geometric import perspective, reflection, rotation, scale, shear, translation
from cnnjax.ops.transformations.neighbourhood import blur, stroke_weight
from cnnjax.ops.transformations.photometric import brightness, contrast, gamma
from cnnjax.ops.transformations.signals import gain, shift, signal_noise, stretch
from cnnjax.ops.transformations.table import (
    TRANSFORMATIONS,
    Apply,
    Transformation,
    default_magnitudes,
    transformation,
)
from cnnjax.ops.transformations.warps import Interpolation, WarpBorder, resample

__all__ = [
    "TRANSFORMATIONS",
    "Apply",
    "Interpolation",
    "Transformation",
    "WarpBorder",
    "blur",
    "brightness",
    "clutter",
    "contrast",
    "default_magnitudes",
    "elastic",
    "gain",
    "gamma",
    "noise",
    "occlusion",
    "perspective",
    "reflection",
    "resample",
    "rotation",
    "scale",
    "shear",
    "shift",
    "signal_noise",
    "smooth_field",
    "stretch",
    "stroke_weight",
    "transformation",
    "translation",
]
