"""The layers of Coates, Ng and Lee 2011: patches are normalised and whitened, then described by centroids."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.ops.coding import CONTRAST_EPSILON, correlate_contrast, hard_code, soft_threshold_code, triangle_code
from cnnjax.ops.geometry import per_dimension

Code = Callable[[jax.Array, jax.Array], jax.Array]

CODES: dict[str, Code] = {"triangle": triangle_code, "hard": hard_code, "soft_threshold": soft_threshold_code}
"""Each is called with vectors [..., n] and centroids [n, F], and returns [..., F]."""


class PatchWhitening(nn.Module):
    """A linear map of every patch, normalised in contrast: `cnnjax.ops.coding.correlate_contrast` and a bias.

    Parameters: `kernel` [*window, C, n] and `bias` [n], with n = prod(window) * C, as many numbers as a patch has. They
    start as the identity: the normalised patch itself, laid out as a kernel is. Unlike the kernel of
    `cnnjax.layers.convolution.Conv`, this one meets patches that are normalised already: for a whitening W and the mean
    m of normalised patches, it is W and the bias -m W.

    Attributes:
      kernel_size: the window's size along every spatial dimension, one number for all or one each.
      epsilon: what is added to a patch's variance.
    """

    kernel_size: int | tuple[int, ...]
    epsilon: float = CONTRAST_EPSILON

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, n], at all positions where the window fits."""
        del train
        window = per_dimension(self.kernel_size, x.ndim - 2, "kernel_size")
        numbers = math.prod(window) * x.shape[-1]
        kernel = self.param("kernel", _identity, (*window, x.shape[-1], numbers))
        bias = self.param("bias", nn.initializers.zeros_init(), (numbers,))
        return correlate_contrast(x, kernel, epsilon=self.epsilon) + bias


class CentroidCode(nn.Module):
    """Every position's features, described by their relation to centroids.

    Parameters: `centroids` [C, features], in the space of the input; from a standard normal distribution.

    Attributes:
      features: how many centroids.
      code: a value of `CODES`.
    """

    features: int
    code: Code = triangle_code

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *positions, C] to [N, *positions, features]."""
        del train
        return self.code(x, self.param("centroids", _normal, (x.shape[-1], self.features)))


# Flax traces a parameter's initialiser whenever its layer runs, only to check the shape: jit traces each shape once.
@functools.partial(jax.jit, static_argnums=1)
def _identity(key: jax.Array, shape: Sequence[int]) -> jax.Array:
    del key
    return jnp.eye(shape[-1]).reshape(shape)


@functools.partial(jax.jit, static_argnums=1)
def _normal(key: jax.Array, shape: Sequence[int]) -> jax.Array:
    return jax.random.normal(key, shape)
