"""The measures that a config can ask for, by name, all with one interface: each calls what a user of Python calls."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from cnnjax.analysis import curves, equivariance, goodfellow, normalised_variance
from cnnjax.analysis.activity import activity
from cnnjax.analysis.confusion import class_recall, confusion_matrix
from cnnjax.analysis.curves import shift_consistency
from cnnjax.analysis.effective_receptive_field import effective_receptive_field
from cnnjax.analysis.findings import Finding
from cnnjax.analysis.goodfellow import ONE_FIRES_IN
from cnnjax.analysis.gradients import gradient_norms
from cnnjax.analysis.lie_derivative import lie_derivative_errors
from cnnjax.analysis.occasion import Measured, Occasion
from cnnjax.analysis.pictures import PICTURES
from cnnjax.analysis.probes import probe_accuracy
from cnnjax.analysis.robustness import other_classes, robustness_curve, transfer_matrix
from cnnjax.analysis.similarity import LEAST_EXAMPLES, cka
from cnnjax.analysis.sizes import size_curve
from cnnjax.analysis.streaming import batches
from cnnjax.analysis.subject import Subject
from cnnjax.analysis.sweep import Sweep, Tally, walk
from cnnjax.ops.transformations.table import default_magnitudes

LARGEST_SHIFT = 4
"""Of `consistency`, in pixels."""
FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Of `sizes`."""
_ATTACKS = (("fgsm", "linf"), ("pgd", "linf"), ("fgsm", "l2"), ("pgd", "l2"))


SWEPT: dict[str, Callable[[Sweep], Tally]] = {
    "accuracy": curves.tally,
    "equivariance": equivariance.tally,
    "normalised_variance": normalised_variance.tally,
    "goodfellow": goodfellow.tally,
}
"""The measures that are taken in one walk over the images and magnitudes of a transformation."""


def _swept(names: Sequence[str], occasion: Occasion) -> dict[str, Measured]:
    """What keys of `SWEPT` find along each of the settings' transformations, by name."""
    found: dict[str, list[Finding]] = {name: [] for name in names}
    settings = occasion.settings
    for along in settings.transformations:
        magnitudes = default_magnitudes(along, settings.magnitudes)
        sweep = Sweep(
            occasion.subject, occasion.images, along, magnitudes, occasion.key, settings.batch_size, occasion.labels
        )
        for name, findings in zip(names, walk(sweep, *(SWEPT[name] for name in names)), strict=True):
            found[name] += findings
    return {name: Measured(findings) for name, findings in found.items()}


def _swept_alone(name: str, occasion: Occasion) -> Measured:
    return _swept((name,), occasion)[name]


def _consistency(occasion: Occasion) -> Measured:
    batch_size = occasion.settings.batch_size
    return Measured(
        shift_consistency(occasion.subject, occasion.images, LARGEST_SHIFT, occasion.key, batch_size=batch_size)
    )


def _lie_derivative(occasion: Occasion) -> Measured:
    findings = []
    for name in occasion.settings.transformations:
        findings += lie_derivative_errors(occasion.subject, occasion.images, name, occasion.settings.batch_size)
    return Measured(findings)


def _probes(occasion: Occasion) -> Measured:
    test = (occasion.images, occasion.labels)
    batch_size = occasion.settings.batch_size
    return Measured(probe_accuracy(occasion.subject, occasion.training, test, key=occasion.key, batch_size=batch_size))


def _cka(occasion: Occasion) -> Measured:
    """Between all stages of the run, and with each other run; where that has the same stages, also stage by stage:
    `cka/<other>` is the debiased linear CKA of a stage's output in both runs on the same images, at most 1, where they
    are alike but for rotation and scale, and about 0 where they are independent (see `cka`)."""
    compare = functools.partial(cka, images=occasion.images, key=occasion.key, batch_size=occasion.settings.batch_size)
    own = compare(occasion.subject, occasion.subject).mean
    findings, arrays = [], {"stages": np.asarray(occasion.subject.stages), "self": own}
    for name, other in occasion.others.items():
        found = compare(occasion.subject, other)
        arrays[name] = found.mean
        if other.stages == occasion.subject.stages:
            numbers = (np.diagonal(values).tolist() for values in (found.mean, *found.interval()))
            for stage, value, low, high in zip(other.stages, *numbers, strict=True):
                findings.append(Finding(f"cka/{name}", value, stage, None, low, high))
    return Measured(findings, arrays)


def _gradients(occasion: Occasion) -> Measured:
    """Of the run as it is, and `..._at_start` as it was before its first step."""
    size = occasion.settings.batch_size
    images, labels = occasion.training_part
    measure = functools.partial(
        gradient_norms,
        images=images,
        labels=labels,
        key=occasion.key,
        label_smoothing=occasion.label_smoothing,
        batch_size=size,
    )
    start = occasion.start()
    at_start = [] if start is None else measure(start)
    renamed = [dataclasses.replace(finding, metric=f"{finding.metric}_at_start") for finding in at_start]
    return Measured(measure(occasion.subject) + renamed)


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


def _legal(occasion: Occasion) -> Occasion:
    """With all values of these images legal: where they are no bytes, the range that a network knows is that of the
    examples it was trained on."""
    images = occasion.images
    if images.dtype == np.uint8:
        return occasion
    ends = [(batch.min(), batch.max()) for _, batch in batches((images,), occasion.settings.batch_size)]
    low, high = (float(choose(values)) for choose, values in zip((min, max), zip(*ends, strict=True), strict=True))

    def widened(subject: Subject) -> Subject:
        return dataclasses.replace(subject, low=min(subject.low, low), high=max(subject.high, high))

    arms = {arm: widened(subject) for arm, subject in occasion.arms.items()}
    return dataclasses.replace(occasion, subject=widened(occasion.subject), arms=arms)


def _robustness(occasion: Occasion) -> Measured:
    occasion = _legal(occasion)
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
    """The run on the images that were made for itself and for the other arms, at the middle one of the sizes."""
    occasion = _legal(occasion)
    settings, own = occasion.settings, occasion.arm
    subjects = {own: occasion.subject, **occasion.arms}
    epsilon = settings.epsilons[len(settings.epsilons) // 2]
    found = transfer_matrix(
        subjects, occasion.images, occasion.labels, "pgd", "linf", epsilon, occasion.key, batch_size=settings.batch_size
    )
    findings = [
        Finding(
            f"transfer/from {maker}/accuracy",
            float(found.accuracy[place, 0]),
            None,
            epsilon,
            float(found.low[place, 0]),
            float(found.high[place, 0]),
        )
        for place, maker in enumerate(found.names)
    ]
    return Measured(findings)


def _sizes(occasion: Occasion) -> Measured:
    size = occasion.settings.batch_size
    return Measured(size_curve(occasion.subject, occasion.images, occasion.labels, FACTORS, size))


MEASURES: dict[str, Callable[[Occasion], Measured]] = {
    **{name: functools.partial(_swept_alone, name) for name in SWEPT},
    "consistency": _consistency,
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


def take(names: Sequence[str], occasion: Occasion) -> dict[str, Measured]:
    """What the measures of those names find; those in `SWEPT` see each transformed image together.

    Raises:
      ValueError: for what a measure refuses.
    """
    together = [name for name in names if name in SWEPT]
    found = _swept(together, occasion) if together else {}
    return found | {name: MEASURES[name](occasion) for name in names if name not in SWEPT}


READS: dict[str, tuple[str, ...]] = {
    "accuracy": ("transformations", "magnitudes"),
    "equivariance": ("transformations", "magnitudes", "batch_size"),
    "normalised_variance": ("transformations", "magnitudes"),
    "goodfellow": ("transformations", "magnitudes"),
    "lie_derivative": ("transformations",),
    "probes": ("probe_images",),
    "cka": ("batch_size",),
    "gradients": ("batch_size",),
    "robustness": ("epsilons", "epsilons_l2"),
    "transfer": ("epsilons",),
}
"""Of a measure, which fields of `cnnjax.config.MeasureConfig` decide on its numbers, besides `split` and `images`."""

OF_TRAINING = ("gradients",)
"""Measures that look at images of the training split, whatever the settings' split is."""

COMPARED = {"transfer": "arms", "cka": "others"}
"""Of a measure, the field of `Occasion` that holds the other runs which its numbers depend on too."""

LEAST: dict[str, dict[str, int]] = {
    "equivariance": {"images": 2, "batch_size": 2},
    "normalised_variance": {"images": 2},
    "goodfellow": {"images": ONE_FIRES_IN},
    "cka": {"images": LEAST_EXAMPLES, "batch_size": LEAST_EXAMPLES},
}
"""Of a measure, how many images there must be, in all and at a time; 1 where nothing is said."""
