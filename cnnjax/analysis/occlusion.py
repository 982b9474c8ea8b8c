"""Where an image must not be covered: a class's probability behind a grey square that is slid over it."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.subject import Subject, logits_of
from cnnjax.analysis.units import checked_classes, per_image


def occlusion(
    subject: Subject,
    images: np.ndarray,
    classes: np.ndarray | Sequence[int],
    *,
    size: int,
    stride: int = 1,
    batch_size: int = 256,
) -> np.ndarray:
    """The class's probability when a grey square hides a part of the image (Zeiler and Fergus 2014, section 4.2).

    softmax(f(x with the square at position p))[class]. The square is the data's mean, which the network sees as 0. It
    starts at p * stride along each dimension and lies in the image wholly. All positions are one compilation.

    Args:
      subject, images, classes, batch_size: as in `cnnjax.analysis.saliency.saliency`.
      size: of the square's side, in pixels.
      stride: pixels between two positions.

    Returns:
      float32 [N, *positions] in 0 to 1, with floor((spatial - size) / stride) + 1 positions along each dimension.

    Raises:
      ValueError: for no image, classes that the network does not have, a square that does not fit, or a stride below 1.
    """
    spatial = images.shape[1:-1]
    if not 1 <= size <= min(spatial) or stride < 1:
        raise ValueError(
            f"the square's size lies between 1 and {min(spatial)} for images of {spatial}, and the stride is at least "
            f"1; given {size} and {stride}"
        )
    checked = checked_classes(subject, images, classes)
    positions = tuple((length - size) // stride + 1 for length in spatial)
    corners = stride * np.indices(positions).reshape(len(spatial), -1).T
    function = functools.partial(_probabilities, subject, jnp.asarray(corners), size)
    found = per_image(function, [images, checked], batch_size)
    return found.reshape(len(images), *positions)


@jax.jit
def _probabilities(
    subject: Subject, corners: jax.Array, size: jax.Array, images: jax.Array, classes: jax.Array
) -> jax.Array:
    """[N, corners], for squares at corners [corners, d]."""
    mean = jnp.asarray(subject.mean, jnp.float32)
    coordinates = jnp.moveaxis(jnp.indices(images.shape[1:-1]), 0, -1)

    def behind_square(corner: jax.Array) -> jax.Array:
        hidden = ((coordinates >= corner) & (coordinates < corner + size)).all(axis=-1)
        covered = jnp.where(hidden[..., None], mean, images.astype(jnp.float32))
        probabilities = jax.nn.softmax(logits_of(subject, covered))
        return jnp.take_along_axis(probabilities, classes[:, None], axis=-1)[:, 0]

    return jax.lax.map(behind_square, corners).T
