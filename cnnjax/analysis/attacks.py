"""Adversarial examples: one step or a walk against the network, within a bound that rounding does not break."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax.analysis.log_odds import ascent, class_count, unit
from cnnjax.analysis.streaming import batches
from cnnjax.analysis.subject import Subject
from cnnjax.ops.keys import fold_in_each

METHODS = ("fgsm", "pgd")
NORMS = ("linf", "l2")


@dataclasses.dataclass(frozen=True)
class Attack:
    """How adversarial examples are made.

    Attributes:
      method: `fgsm` or `pgd`, see the functions of these names.
      norm: `linf`, in which no pixel moves farther than epsilon, or `l2`, which bounds the root of the sum of squares
        over all pixels and channels; both as shares of the range of legal pixels.
      targeted: towards a class, rather than away from the true one.
      steps: of `pgd`.
      step_size: of `pgd`, as a share of the range of legal pixels; None for 2.5 epsilon / steps, with which it can
        cross the ball from any start (Madry 2018).

    Raises:
      ValueError: for an unknown method or norm, no step, or a negative step size.
    """

    method: str = "fgsm"
    norm: str = "linf"
    targeted: bool = False
    steps: int = 10
    step_size: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"unknown method {self.method!r}; there are: {', '.join(METHODS)}")
        if self.norm not in NORMS:
            raise ValueError(f"unknown norm {self.norm!r}; there are: {', '.join(NORMS)}")
        if self.steps < 1:
            raise ValueError(f"an attack takes at least 1 step, not {self.steps}")
        if self.step_size is not None and not 0 <= self.step_size < math.inf:
            raise ValueError(f"a step size is a share of the pixels' range, 0 at least, not {self.step_size}")

    @property
    def name(self) -> str:
        """Such as `fgsm_linf` or `pgd_l2_targeted`."""
        return f"{self.method}_{self.norm}" + "_targeted" * self.targeted


def fgsm(
    subject: Subject,
    images: np.ndarray,
    classes: np.ndarray,
    epsilon: float,
    *,
    norm: str = "linf",
    targeted: bool = False,
    batch_size: int = 256,
) -> np.ndarray:
    """The fast gradient sign method (Goodfellow, Shlens and Szegedy 2015): x + r sign(dJ/dx), r = epsilon (high - low),
    and in L2 x + r g / |g|_2 with g = dJ/dx; then brought back to legal pixels. J is the cross-entropy of the true
    class; targeted, the step goes down the cross-entropy of the target.

    For a linear network of two classes it is the worst case within the bound.

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units, legal, taken as float32.
      classes: [N], whole numbers: the true class of each image, or its target.
      epsilon: the greatest distance to the original as a share of the range of legal pixels, finite and 0 at least.
      norm: `linf` or `l2`, of the distance.
      targeted: whether the classes are targets.
      batch_size: images at a time.

    Returns:
      float32 [N, *spatial, C], legal, and no farther than epsilon (high - low) from the originals, exactly. All
      epsilons share one compilation; with 0 the originals come back.

    Raises:
      ValueError: for an unknown norm, an illegal epsilon or pixel, or a class that the network does not have.
    """
    return adversarial_examples(
        Attack("fgsm", norm, targeted), subject, images, classes, epsilon, batch_size=batch_size
    )


def pgd(
    subject: Subject,
    images: np.ndarray,
    classes: np.ndarray,
    epsilon: float,
    key: jax.Array,
    *,
    norm: str = "linf",
    targeted: bool = False,
    steps: int = 10,
    step_size: float | None = None,
    batch_size: int = 256,
) -> np.ndarray:
    """Projected gradient descent (Madry and others 2018): from a point drawn uniformly from the ball about the image,
    so many steps as `fgsm`'s, each followed by the way back to legal pixels and into the ball. The last point counts.

    Args:
      subject, images, classes, epsilon, norm, targeted, batch_size: as in `fgsm`.
      key: of the starting points. An image's is drawn by its place among all, whatever the batch size.
      steps: how many, at least 1. All numbers of steps share one compilation.
      step_size: of each, see `Attack`.

    Returns:
      As `fgsm`.

    Raises:
      ValueError: as `fgsm`, and for no step or a negative step size.
    """
    attack = Attack("pgd", norm, targeted, steps, step_size)
    return adversarial_examples(attack, subject, images, classes, epsilon, key, batch_size)


def adversarial_examples(
    attack: Attack,
    subject: Subject,
    images: np.ndarray,
    classes: np.ndarray,
    epsilon: float,
    key: jax.Array | None = None,
    batch_size: int = 256,
) -> np.ndarray:
    """`fgsm` or `pgd`, whichever the attack says; the first needs no key."""
    check_attackable(subject, images, classes)
    found = []
    for mask, batch, aims, places in batches((images, classes, np.arange(len(images))), batch_size):
        found.append(attacked(attack, subject, batch, aims, places, epsilon, key)[mask])
    return np.concatenate(found)


def attacked(
    attack: Attack,
    subject: Subject,
    images: np.ndarray | jax.Array,
    classes: np.ndarray | jax.Array,
    places: np.ndarray | jax.Array,
    epsilon: float,
    key: jax.Array | None,
) -> np.ndarray:
    """The adversarial examples of one batch.

    Args:
      attack: how.
      subject, images, classes: as in `fgsm`, checked by `check_attackable`.
      places: [N], whole numbers: each image's among all, by which its start is drawn.
      epsilon: as in `fgsm`.
      key: as in `pgd`.

    Raises:
      ValueError: for an illegal epsilon or pixel, or `pgd` without a key.
    """
    originals = np.asarray(images, np.float32)
    least, greatest = originals.min(), originals.max()
    if not (np.float32(subject.low) <= least and greatest <= np.float32(subject.high)):
        raise ValueError(f"legal pixels lie from {subject.low} to {subject.high}; given {least} to {greatest}")
    radius = _radius(subject, epsilon, originals[0].size)
    uphill = 1.0 if attack.targeted else -1.0
    if attack.method == "pgd" and key is None:
        raise ValueError("pgd starts at random and needs a key, as made by `jax.random.key`")
    if radius == 0:
        return originals
    walk = functools.partial(_walk, subject, originals, classes, places, norm=attack.norm)
    if attack.method == "fgsm":
        # A walk of one step from the image itself, which shares the compilation of `pgd`.
        moved = walk(jax.random.key(0), radius, np.float32(0), radius, uphill, 1)
    else:
        share = 2.5 * epsilon / attack.steps if attack.step_size is None else attack.step_size
        step = np.float32(min(share, originals[0].size) * (subject.high - subject.low))
        moved = walk(key, radius, radius, step, uphill, attack.steps)
    return within_bound(originals, np.asarray(moved), radius, attack.norm, subject.low, subject.high)


def within_bound(
    images: np.ndarray, moved: np.ndarray, radius: np.float32, norm: str, low: float, high: float
) -> np.ndarray:
    """The moved images, brought back to legal pixels and then into the ball about the originals, whatever is rounded.

    In L-inf each pixel is clipped to the greatest float32 up to x + r and the least from x - r. In L2 the offset is
    shortened to r, and each pixel's is rounded towards zero, so that the length cannot grow. NumPy computes it, for an
    accelerator may keep tiny numbers for zeros and reorder sums.

    Args:
      images: float32 [N, *spatial, C], legal.
      moved: float32, the same shape.
      radius: in the images' units, 0 at least.
      norm: `linf` or `l2`.
      low, high: the ends of the legal pixels, each rounded to float32.

    Returns:
      float32, the same shape; the images themselves for radius 0.
    """
    least, greatest = np.float32(low), np.float32(high)
    if norm == "linf":
        upper = _greatest_up_to_sum(images, radius)
        lower = -_greatest_up_to_sum(-images, radius)
        return np.clip(moved, np.maximum(lower, least), np.minimum(upper, greatest))
    origin = images.astype(np.float64)
    offset = np.clip(moved, least, greatest) - origin
    length = np.sqrt(np.sum(offset**2, axis=tuple(range(1, images.ndim)), keepdims=True))
    rounding = (offset[0].size + 8) * np.finfo(np.float64).eps  # of the length, at most
    offset = offset * np.minimum(1, float(radius) * (1 - rounding) / np.maximum(length, np.finfo(np.float64).tiny))
    near = (origin + offset).astype(np.float32)
    return np.where(np.abs(near - origin) > np.abs(offset), np.nextafter(near, images), near)


def _greatest_up_to_sum(x: np.ndarray, y: np.float32) -> np.ndarray:
    """The greatest float32 that is at most x + y; the error of the nearest is exact by Knuth's two-sum."""
    total = x + y
    part = total - x
    error = (x - (total - part)) + (y - part)
    return np.where(error < 0, np.nextafter(total, np.float32(-np.inf)), total)


def _radius(subject: Subject, epsilon: float, pixels: int) -> np.float32:
    """epsilon (high - low), rounded down. No two legal images are farther apart than their number of pixels."""
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"epsilon is a share of the pixels' range, finite and 0 at least, not {epsilon}")
    exact = min(float(epsilon), pixels) * (subject.high - subject.low)
    nearest = np.float32(exact)
    return np.nextafter(nearest, np.float32(0)) if float(nearest) > exact else nearest


def check_attackable(subject: Subject, images: np.ndarray, classes: np.ndarray) -> None:
    """Raises ValueError unless the images are [N, *spatial, C] and the classes [N] are of the network. Whether the
    pixels are legal is seen batch by batch, by `attacked`."""
    if images.ndim < 3 or images.shape[-1] != len(subject.mean) or len(images) == 0:
        expected = f"[N, *spatial, {len(subject.mean)}] with N of at least 1"
        raise ValueError(f"images must be {expected}; given shape {images.shape}")
    check_classes(classes, len(images), class_count(subject, images.shape[1:]))


def check_classes(classes: np.ndarray, images: int, count: int) -> None:
    """Raises ValueError unless there is a whole number from 0 to count - 1 for each image."""
    if classes.shape != (images,) or not np.issubdtype(classes.dtype, np.integer):
        raise ValueError(f"classes must be {images} whole numbers; given {classes.dtype} of shape {classes.shape}")
    if classes.min() < 0 or classes.max() >= count:
        raise ValueError(f"the classes are 0 to {count - 1}; given {classes.min()} to {classes.max()}")


@functools.partial(jax.jit, static_argnames="norm")
def _walk(
    subject: Subject,
    images: jax.Array,
    classes: jax.Array,
    places: jax.Array,
    key: jax.Array,
    radius: jax.Array,
    start_radius: jax.Array,
    step: jax.Array,
    uphill: float,
    steps: int,
    norm: str,
) -> jax.Array:
    """The last point of so many steps from a point drawn within `start_radius`, inside the ball but for rounding."""

    def inside(moved: jax.Array) -> jax.Array:
        offset = jnp.clip(moved, subject.low, subject.high) - images
        if norm == "linf":
            return images + jnp.clip(offset, -radius, radius)
        length = jnp.sqrt(jnp.sum(offset**2, axis=tuple(range(1, images.ndim)), keepdims=True))
        return images + offset * jnp.minimum(1, radius / jnp.where(length > 0, length, 1))

    def move(_: jax.Array, point: jax.Array) -> jax.Array:
        return inside(point + step * uphill * ascent(subject, point, classes, norm)[1])

    start = images + start_radius * _in_unit_ball(fold_in_each(key, places), images.shape[1:], norm)
    return lax.fori_loop(0, steps, move, inside(start))


def _in_unit_ball(keys: jax.Array, shape: tuple[int, ...], norm: str) -> jax.Array:
    """A point [N, *shape] for each key, uniform in the ball of radius 1."""
    if norm == "linf":
        return jax.vmap(lambda key: jax.random.uniform(key, shape, minval=-1, maxval=1))(keys)
    normal = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
    height = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1)))(keys)
    distance = height ** (1 / math.prod(shape))
    return unit(normal) * distance.reshape(-1, *[1] * len(shape))
