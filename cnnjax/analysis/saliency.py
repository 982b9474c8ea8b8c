"""Which pixels a class's logit hangs on most: its gradient at an image."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.subject import Subject, logits_of
from cnnjax.analysis.units import checked_classes, per_image


def saliency(
    subject: Subject, images: np.ndarray, classes: np.ndarray | Sequence[int], *, batch_size: int = 256
) -> np.ndarray:
    """max over channels of |d logit of the class / d pixel| (Simonyan, Vedaldi and Zisserman 2014, section 3).

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units.
      classes: [N], the class that is asked about for each image.
      batch_size: images at a time.

    Returns:
      float32 [N, *spatial], 0 or more: logits for each unit of a pixel.

    Raises:
      ValueError: for no image, or classes that the network does not have.
    """
    gradients, _ = _with_gradients(subject, images, classes, batch_size)
    return np.abs(gradients).max(axis=-1)


def gradient_times_input(
    subject: Subject, images: np.ndarray, classes: np.ndarray | Sequence[int], *, batch_size: int = 256
) -> np.ndarray:
    """The sum over channels of d logit of the class / d input times the input (Shrikumar and others 2016).

    The input is the standardised image, 0 where a pixel is the data's mean. For a linear network the map sums to the
    logit without its bias.

    Args:
      subject, images, classes, batch_size: as in `saliency`.

    Returns:
      float32 [N, *spatial], in logits, of either sign.

    Raises:
      ValueError: for no image, or classes that the network does not have.
    """
    gradients, offsets = _with_gradients(subject, images, classes, batch_size)
    return (gradients * offsets).sum(axis=-1)


def _with_gradients(
    subject: Subject, images: np.ndarray, classes: np.ndarray | Sequence[int], batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The logits' gradients by the pixels, and the images less the mean, both [N, *spatial, C]."""
    checked = checked_classes(subject, images, classes)
    gradients = per_image(functools.partial(_gradients, subject), [images, checked], batch_size)
    return gradients, images.astype(np.float32) - np.asarray(subject.mean, np.float32)


@jax.jit
def _gradients(subject: Subject, images: jax.Array, classes: jax.Array) -> jax.Array:
    def chosen(images: jax.Array) -> jax.Array:
        return jnp.take_along_axis(logits_of(subject, images), classes[:, None], axis=-1).sum()

    return jax.grad(chosen)(images.astype(jnp.float32))
