"""The layers that the first LeNets had and later networks have not (LeCun 1989; LeCun, Bottou and others 1998)."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.nn.initializers import Initializer

from cnnjax.config import RequestError
from cnnjax.layers.activations import Activation
from cnnjax.layers.initialisers import INITIALISERS, BiasInitialiser, zero_bias
from cnnjax.ops.borders import Border
from cnnjax.ops.convolution import correlate
from cnnjax.ops.geometry import Padding, per_dimension
from cnnjax.ops.pooling import average_pool

_ZEROS = nn.initializers.zeros_init()

Table = tuple[tuple[int, ...], ...]
"""For each feature map, the channels that it sees."""


def scaled_tanh(x: jax.Array) -> jax.Array:
    """1.7159 tanh(2 x / 3), which takes 1 to 1 and -1 to -1 (LeCun 1989; 1998, appendix A)."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


def cyclic_table(maps: int, channels: int, seen: int) -> Table:
    """Map i sees the channels i, i + 1, ... of which there are `seen`, counted on a ring."""
    return tuple(tuple(sorted((i + j) % channels for j in range(seen))) for i in range(maps))


LENET5_TABLE: Table = (
    *cyclic_table(6, 6, 3),
    *cyclic_table(6, 6, 4),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
"""Table I of LeCun 1998: maps 0 to 5 of C3 see three contiguous maps of S2, 6 to 11 four contiguous ones, 12 to 14 four
that are not contiguous, and 15 all six."""


class SparseConv(nn.Module):
    """A convolution in which each feature map sees only the channels that a table gives it.

    Parameters: `fromK/kernel` [*window, K, maps] for each number K of channels seen, with the maps that see as many in
    the order of the table, and `bias` [maps]. It is computed as a full convolution in which all other kernels are 0,
    and its multiply-adds are counted as such.

    Attributes:
      table: the channels of each feature map.
      kernel_size, strides, padding, border, use_bias, kernel_init, bias_init: as in `cnnjax.layers.convolution.Conv`.
    """

    table: Table
    kernel_size: int | tuple[int, ...]
    strides: int = 1
    padding: Padding = "same"
    border: Border = "zeros"
    use_bias: bool = True
    kernel_init: Initializer = INITIALISERS["lecun"]
    bias_init: BiasInitialiser = zero_bias

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, maps].

        Raises:
          ValueError: if the table names a channel that x does not have.
        """
        del train
        if max(map(max, self.table)) >= x.shape[-1]:
            raise ValueError(f"the table names channel {max(map(max, self.table))}; the input has {x.shape[-1]}")
        window = per_dimension(self.kernel_size, x.ndim - 2, "kernel_size")
        full = jnp.zeros((*window, x.shape[-1], len(self.table)), x.dtype)
        for seen in sorted({len(channels) for channels in self.table}):
            maps = [i for i, channels in enumerate(self.table) if len(channels) == seen]
            kernel = _Kernel((*window, seen, len(maps)), self.kernel_init, name=f"from{seen}")()
            channels = np.array([self.table[i] for i in maps]).T
            full = full.at[..., channels, np.array(maps)].set(kernel, unique_indices=True)
        x = correlate(x, full, strides=self.strides, padding=self.padding, border=self.border)
        if self.use_bias:
            inputs = [math.prod(window) * len(channels) for channels in self.table]
            x = x + self.param("bias", _draw_each, self.bias_init, inputs)
        return x


def _draw_each(key: jax.Array, bias_init: BiasInitialiser, inputs: Sequence[int]) -> jax.Array:
    """A bias for each map, by as many inputs as it sees."""
    biases = jnp.zeros(len(inputs), jnp.float32)
    for seen in sorted(set(inputs)):
        key, own = jax.random.split(key)
        maps = np.flatnonzero(np.equal(inputs, seen))
        biases = biases.at[maps].set(bias_init(own, maps.shape, seen), unique_indices=True)
    return biases


class _Kernel(nn.Module):
    """A kernel under a name of its own."""

    shape: tuple[int, ...]
    kernel_init: Initializer

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("kernel", self.kernel_init, self.shape)


class UnitBias(nn.Module):
    """A layer and a bias [*positions, C] for each of its units. They fix the size of the input."""

    layer: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """As the layer."""
        x = self.layer(x, train=train)
        return x + self.param("bias", _ZEROS, x.shape[1:])


class TrainedSubsampling(nn.Module):
    """The sum of each window, times a trained coefficient of its map, plus a trained bias, then the detector.

    Parameters: `scale` and `bias` [C]. It starts as the average of each window. Windows do not overlap, and what does
    not fill one is dropped.
    """

    window: int
    act: Activation

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, C]."""
        del train
        elements = self.window ** (x.ndim - 2)
        scale = self.param("scale", nn.initializers.constant(1 / elements), x.shape[-1:])
        bias = self.param("bias", _ZEROS, x.shape[-1:])
        return self.act(scale * elements * average_pool(x, self.window) + bias)


class EuclideanCodes(nn.Module):
    """Radial basis functions as the head: minus the squared distance to a fixed code of each class. No parameters.

    The paper's codes are pictures of the characters, 7 x 12, which it does not print. Here they are `class_codes`.
    """

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, C] to logits [N, classes]: -sum over c of (x[n, c] - code[class, c])^2."""
        del train
        codes = jnp.asarray(class_codes(self.classes, x.shape[-1]), x.dtype)
        return 2 * x @ codes.T - jnp.square(x).sum(-1, keepdims=True) - x.shape[-1]


def class_codes(classes: int, length: int) -> np.ndarray:
    """Codes of -1 and 1 [classes, length]: rows of Sylvester's Hadamard matrix without the constant one, cut to length.

    Whole rows differ in exactly half of their elements; of 84 elements, the codes of ten classes differ in 40 to 44.

    Raises:
      RequestError: if there are not as many rows.
    """
    order = 2 ** math.ceil(math.log2(length))
    if classes >= order:
        raise RequestError(f"codes of length {length} serve at most {order - 1} classes; given {classes}")
    common = np.arange(1, classes + 1)[:, None] & np.arange(length)
    return 1.0 - 2.0 * (np.bitwise_count(common) % 2)
