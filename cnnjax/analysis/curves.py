"""How often the network is right, and of one mind, about transformed images."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import Moments, moments, moments_of
from cnnjax.analysis.subject import Subject, logits_of
from cnnjax.analysis.sweep import Batch, Outputs, Sweep, Tally, walk
from cnnjax.analysis.transformed import numbered
from cnnjax.ops.keys import fold_in_each

Classes = tuple[jax.Array, ...]
"""At each magnitude so far, the greatest logit's class for each image of a batch, int32 [B]."""


def accuracy_curve(sweep: Sweep) -> list[Finding]:
    """Accuracy, and agreement with the untouched image, at each magnitude of a transformation g (Zeiler and Fergus
    2014, "Visualizing and understanding convolutional networks", figure 5, draw the true class's probability so).

    `<name>/accuracy` is the share of images x with argmax f(gx) = label; `<name>/agreement` that with
    argmax f(gx) = argmax f(x), whether right or wrong (the consistency curve). Both lie in [0, 1], the second is 1 at
    magnitude 0; their intervals are over images (Wilson's).

    Args:
      sweep: what is shown, with labels.

    Raises:
      ValueError: without labels; see `walk` too.
    """
    return walk(sweep, tally)[0]


def tally(sweep: Sweep) -> Tally:
    """`accuracy_curve` in a walk with other measures."""
    if sweep.labels is None:
        raise ValueError("accuracy needs the images' labels")
    head = sweep.subject.stages[-1]

    def gather(so_far: Classes | None, batch: Batch, moved: Outputs, magnitude: np.float32) -> Classes:
        return (*(so_far or ()), _top_1(moved[head]))

    def close(classes: Classes, batch: Batch) -> dict[str, Moments]:
        counted = np.asarray(batch.mask)
        found = np.stack(classes, axis=1)[counted]
        right, before = (np.asarray(truth)[counted] for truth in (batch.labels, _top_1(batch.outputs[head])))
        return {"accuracy": moments_of(found == right[:, None]), "agreement": moments_of(found == before[:, None])}

    def findings(total: dict[str, Moments]) -> list[Finding]:
        return [
            Finding(f"{sweep.name}/{metric}", float(mean), None, float(magnitude), float(low), float(high))
            for metric, share in total.items()
            for magnitude, mean, low, high in zip(sweep.magnitudes, share.mean, *share.share_interval(), strict=True)
        ]

    return Tally(gather, close, findings)


def shift_consistency(
    subject: Subject,
    images: np.ndarray,
    largest_shift: int,
    key: jax.Array,
    pairs: int = 5,
    batch_size: int = 256,
) -> list[Finding]:
    """The chance that two random shifts of an image get the same top-1 class (Zhang 2019, "Making convolutional
    networks shift-invariant again", section 4.2).

    Metric `random_shift/consistency`: the mean over images and pairs of [argmax f(S_a x) = argmax f(S_b x)], in [0, 1],
    with an interval over images (Wilson's, as of one pair each: with more pairs it is rather too wide). S_a and S_b
    shift circularly by whole pixels, uniform in -largest_shift ... largest_shift, drawn for each image, pair and
    spatial axis independently.

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units, of any number of spatial dimensions.
      largest_shift: in pixels along each axis; the finding's magnitude.
      key: what the shifts are drawn from, by the image's place among all.
      pairs: of shifts for each image.
      batch_size: images at a time.

    Raises:
      ValueError: if the largest shift or the number of pairs is below 1; see `batches` too.
    """
    if min(largest_shift, pairs) < 1:
        raise ValueError(f"the largest shift {largest_shift} and the number of pairs {pairs} must be at least 1")

    def measure(images: jax.Array, numbers: jax.Array) -> np.ndarray:
        classes = [
            _shifted_top_1(subject, images, numbers, jax.random.fold_in(key, draw), largest_shift)
            for draw in range(2 * pairs)
        ]
        return np.mean(np.equal(classes[::2], classes[1::2]), axis=0)

    moment = moments(measure, (images, numbered(images)), batch_size)
    low, high = moment.share_interval()
    return [
        Finding("random_shift/consistency", float(moment.mean), None, float(largest_shift), float(low), float(high))
    ]


@jax.jit
def _top_1(logits: jax.Array) -> jax.Array:
    return jnp.argmax(logits, axis=-1)


@jax.jit
def _shifted_top_1(
    subject: Subject, images: jax.Array, numbers: jax.Array, key: jax.Array, largest_shift: int
) -> jax.Array:
    axes = tuple(range(images.ndim - 2))

    def shifted(image: jax.Array, key: jax.Array) -> jax.Array:
        offsets = jax.random.randint(key, (len(axes),), -largest_shift, largest_shift + 1)
        return jnp.roll(image, offsets, axes)

    moved = jax.vmap(shifted)(images, fold_in_each(key, numbers))
    return jnp.argmax(logits_of(subject, moved), axis=-1)
