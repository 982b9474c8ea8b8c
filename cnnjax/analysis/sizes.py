"""Accuracy on images of another size than the network was trained on."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import moments
from cnnjax.analysis.subject import Subject, logits_of


def size_curve(
    subject: Subject, images: np.ndarray, labels: np.ndarray, factors: Sequence[float], batch_size: int = 256
) -> list[Finding]:
    """The share of the images whose class is right when they are resized by each factor.

    A network takes other sizes if its grid is summarised into a fixed number of regions (adaptive, pyramid or global
    pooling; He and others 2015, "Spatial pyramid pooling in deep convolutional networks"); sizes that it does not take
    are left out.

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units.
      labels: [N].
      factors: above 0, by which the sides are multiplied, rounded to whole pixels of at least 1. Each is compiled.
      batch_size: images at a time.

    Returns:
      `size/accuracy`, in [0, 1], at each factor as magnitude, with its interval over images (Wilson's).

    Raises:
      ValueError: for a factor that is not above 0.
    """
    if wrong := [factor for factor in factors if not factor > 0]:
        raise ValueError(f"a factor of size must be above 0; given {wrong[0]}")
    findings = []
    for factor in factors:
        spatial = tuple(max(1, round(side * factor)) for side in images.shape[1:-1])

        @jax.jit
        def right(batch: jax.Array, truth: jax.Array, spatial: tuple[int, ...] = spatial) -> jax.Array:
            shape = (len(batch), *spatial, batch.shape[-1])
            resized = jax.image.resize(batch.astype(jnp.float32), shape, "linear")
            return jnp.argmax(logits_of(subject, resized), axis=-1) == truth

        if not _takes(subject, (*spatial, images.shape[-1])):
            continue
        share = moments(right, (images, labels), batch_size)
        low, high = share.share_interval()
        findings.append(Finding("size/accuracy", float(share.mean), None, float(factor), float(low), float(high)))
    return findings


def _takes(subject: Subject, shape: tuple[int, ...]) -> bool:
    """Whether the network can be run on images of that shape."""
    try:
        jax.eval_shape(logits_of, subject, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    except Exception:  # whatever a layer says of a shape that it was not made for
        return False
    return True
