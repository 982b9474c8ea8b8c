"""What the measures' metrics are called in figures, and what they say."""

from cnnjax.ops.transformations.table import TRANSFORMATIONS, find

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


def axis_label(metric: str) -> str:
    """The quantity that a metric is, for its axis; its own name where `MEANINGS` has no words for it."""
    part = _known_part(metric)
    return MEANINGS[part][0] if part else metric.replace("_", " ")


def explanation(metric: str) -> str:
    """The sentence that says how to read a metric; empty where there is none."""
    part = _known_part(metric)
    survivors = _SURVIVORS if metric.startswith(_ATTACKED) and metric.endswith("/accuracy") else ""
    return " ".join(filter(None, (MEANINGS[part][1] if part else "", survivors)))


def magnitude_label(metric: str) -> str:
    """What is changed along the axis of a metric's magnitudes, with its unit."""
    name = metric.split("/")[0]
    if name.partition("(")[0] in TRANSFORMATIONS:
        return f"{name.replace('_', ' ')} ({find(name).unit})"
    if name.endswith(("_l2", "_l2_targeted")):
        return "length of the change (in the pixels' range)"
    if name == "size":
        return "sides of the image, relative to those of training"
    return "size of the change (share of the pixels' range)"


def title(metric: str) -> str:
    """A metric in words, such as `Accuracy under FGSM in L2`."""
    first, _, rest = metric.partition("/")
    if not rest:
        return metric.replace("_", " ").capitalize()
    words = axis_label(metric)
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


def _known_part(metric: str) -> str | None:
    return next((name for name in metric.split("/")[::-1] if name in MEANINGS), None)
