"""From one scale of pixels to another, inside a network whose weights expect the other."""

import jax
import jax.numpy as jnp
from flax import linen as nn

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class RangeFromStandard(nn.Module):
    """From colours standardised by ImageNet's means and deviations, of pixels in [0, 1], to pixels in [-1, 1].

    torchvision's `transform_input`: weights that were trained in TensorFlow see that range.
    """

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, 3] to the same shape.

        Raises:
          ValueError: for another number of channels.
        """
        del train
        if x.shape[-1] != 3:
            raise ValueError(f"transform_input is for images of 3 colours; given {x.shape[-1]} channels")
        return 2 * (x * jnp.asarray(_IMAGENET_STD, x.dtype) + jnp.asarray(_IMAGENET_MEAN, x.dtype)) - 1
