"""The measures that a config can ask for, by name, all with one interface: each calls what a user of Python calls."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from cnnjax.analysis.activity import activity
from cnnjax.analysis.confusion import class_recall, confusion_matrix
from cnnjax.analysis.curves import accuracy_curve, shift_consistency
from cnnjax.analysis.effective_receptive_field import effective_receptive_field
from cnnjax.analysis.equivariance import equivariance_errors
from cnnjax.analysis.findings import Finding
from cnnjax.analysis.goodfellow import goodfellow_scores
from cnnjax.analysis.gradients import gradient_norms
from cnnjax.analysis.lie_derivative import GROUPS, lie_derivative_errors
from cnnjax.analysis.normalised_variance import normalised_variance
from cnnjax.analysis.occasion import Measured, Occasion
from cnnjax.analysis.pictures import PICTURES
from cnnjax.analysis.probes import probe_accuracy
from cnnjax.analysis.robustness import other_classes, robustness_curve, transfer_matrix
from cnnjax.analysis.similarity import cka
from cnnjax.analysis.sizes import size_curve
from cnnjax.ops.transformations.table import default_magnitudes

LARGEST_SHIFT = 4
"""Of `consistency`, in pixels."""
FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Of `sizes`."""
_ATTACKS = (("fgsm", "linf"), ("pgd", "linf"), ("fgsm", "l2"), ("pgd", "l2"))


def _over_transformations(function: Callable[..., list[Finding]], labelled: bool, occasion: Occasion) -> Measured:
    given = (occasion.images, occasion.labels) if labelled else (occasion.images,)
    findings = []
    for name in occasion.settings.transformations:
        magnitudes = default_magnitudes(name, occasion.settings.magnitudes)
        findings += function(occasion.subject, *given, name, magnitudes, occasion.key, occasion.settings.batch_size)
    return Measured(findings)


def _consistency(occasion: Occasion) -> Measured:
    batch_size = occasion.settings.batch_size
    return Measured(
        shift_consistency(occasion.subject, occasion.images, LARGEST_SHIFT, occasion.key, batch_size=batch_size)
    )


def _lie_derivative(occasion: Occasion) -> Measured:
    names = [name for name in occasion.settings.transformations if name in GROUPS]
    findings = []
    for name in names:
        findings += lie_derivative_errors(occasion.subject, occasion.images, name, occasion.settings.batch_size)
    return Measured(findings)


def _probes(occasion: Occasion) -> Measured:
    test = (occasion.images, occasion.labels)
    batch_size = occasion.settings.batch_size
    return Measured(probe_accuracy(occasion.subject, occasion.training, test, key=occasion.key, batch_size=batch_size))


def _cka(occasion: Occasion) -> Measured:
    """Between all stages of the run, and with each other run that has the same stages, stage by stage."""
    compare = functools.partial(cka, images=occasion.images, key=occasion.key, batch_size=occasion.settings.batch_size)
    findings, arrays = [], {"self": compare(occasion.subject, occasion.subject)}
    for name, other in occasion.others.items():
        arrays[name] = compare(occasion.subject, other)
        kind = "next seed" if name.startswith("seed ") else name
        if other.stages == occasion.subject.stages:
            diagonal = zip(other.stages, np.diagonal(arrays[name]), strict=True)
            findings += [Finding(f"cka/{kind}", float(value), stage) for stage, value in diagonal]
    return Measured(findings, arrays)


def _gradients(occasion: Occasion) -> Measured:
    size = occasion.settings.batch_size
    images, labels = (array[: occasion.settings.images] for array in occasion.training)
    return Measured(gradient_norms(occasion.subject, images, labels, key=occasion.key, batch_size=size))


def _receptive_field(occasion: Occasion) -> Measured:
    stages = occasion.spatial_stages
    if not stages:
        return Measured([])
    return Measured(
        *effective_receptive_field(
            occasion.subject, occasion.images, stages=stages, batch_size=occasion.settings.batch_size
        )
    )


def _activity(occasion: Occasion) -> Measured:
    return Measured(activity(occasion.subject, occasion.images, batch_size=occasion.settings.batch_size))


def _confusion(occasion: Occasion) -> Measured:
    size = occasion.settings.batch_size
    matrix = confusion_matrix(occasion.subject, occasion.images, occasion.labels, batch_size=size)
    return Measured(class_recall(matrix), {"matrix": matrix})


def _robustness(occasion: Occasion) -> Measured:
    settings = occasion.settings
    subject, images, labels = occasion.subject, occasion.images, occasion.labels
    attack = functools.partial(robustness_curve, subject, images, labels, batch_size=settings.batch_size)
    findings = []
    for method, norm in _ATTACKS:
        findings += attack(method, norm, settings.epsilons_l2 if norm == "l2" else settings.epsilons, occasion.key)
    logits = jax.eval_shape(subject.model.apply, subject.variables, jax.ShapeDtypeStruct(images[:1].shape, np.float32))
    targets = other_classes(labels, logits.shape[-1], occasion.key)
    return Measured(findings + attack("pgd", "linf", settings.epsilons, occasion.key, targets=targets))


def _transfer(occasion: Occasion) -> Measured:
    """The run on the images that were made for others, and they on its own, at the middle one of the sizes."""
    settings = occasion.settings
    subjects = {"itself": occasion.subject, **occasion.others}
    epsilon = settings.epsilons[len(settings.epsilons) // 2]
    found = transfer_matrix(
        subjects, occasion.images, occasion.labels, "pgd", "linf", epsilon, occasion.key, batch_size=settings.batch_size
    )
    findings = [
        Finding(
            f"transfer/from {'next seed' if name.startswith('seed ') else name}/accuracy",
            float(found.accuracy[place, 0]),
            None,
            epsilon,
            float(found.low[place, 0]),
            float(found.high[place, 0]),
        )
        for place, name in enumerate(found.names)
    ]
    return Measured(findings, {"accuracy": found.accuracy})


def _sizes(occasion: Occasion) -> Measured:
    size = occasion.settings.batch_size
    return Measured(size_curve(occasion.subject, occasion.images, occasion.labels, FACTORS, size))


MEASURES: dict[str, Callable[[Occasion], Measured]] = {
    "accuracy": functools.partial(_over_transformations, accuracy_curve, True),
    "consistency": _consistency,
    "equivariance": functools.partial(_over_transformations, equivariance_errors, False),
    "normalised_variance": functools.partial(_over_transformations, normalised_variance, False),
    "goodfellow": functools.partial(_over_transformations, goodfellow_scores, False),
    "lie_derivative": _lie_derivative,
    "probes": _probes,
    "cka": _cka,
    "gradients": _gradients,
    "receptive_field": _receptive_field,
    "activity": _activity,
    "confusion": _confusion,
    "robustness": _robustness,
    "transfer": _transfer,
    "sizes": _sizes,
    **PICTURES,
}
"""By name; `cnnjax.config.MeasureConfig.names` are keys."""
