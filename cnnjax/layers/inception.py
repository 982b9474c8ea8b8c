"""Inception modules: windows of several sizes side by side (Szegedy 2015, "Going deeper with convolutions")."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.layers.parts import Parts
from cnnjax.layers.sequence import Named, Sequential

Block = Callable[..., nn.Module]
"""Makes convolution, norm and detector: called with features, window and the fields of `Parts.conv`."""


class Branches(nn.Module):
    """Layers that each see the same input, with their outputs concatenated along channels.

    Attributes:
      branches: each keeps the grid, or changes it as all others do.
    """

    branches: tuple[Named, ...]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, the sum of the branches' features]."""
        outputs = [branch.inside(self)(x, train=train) for branch in self.branches]
        return jnp.concatenate(outputs, axis=-1)


class CeilPool(nn.Module):
    """Pooling that drops no position at the end: where the last window does not fit, it is cut short.

    PyTorch's and Caffe's `ceil_mode`, for windows that are no shorter than the stride.
    """

    parts: Parts
    window: int
    strides: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, C]."""
        after = ((0, self.strides - 1),) * (x.ndim - 2)
        pool = self.parts.pooling(self.window, self.strides, after)
        return pool.clone(parent=self, name="pool")(x, train=train)


@dataclasses.dataclass(frozen=True)
class InceptionWidths:
    """Features in an inception module, in the order of the paper's table 1.

    Attributes:
      one: of the 1x1 convolution.
      three_reduction, three: of the 1x1 and the 3x3 convolution behind it.
      five_reduction, five: of the 1x1 and the 5x5 convolution behind it.
      pool_projection: of the 1x1 convolution behind the pooling.
    """

    one: int
    three_reduction: int
    three: int
    five_reduction: int
    five: int
    pool_projection: int

    def scaled(self, width: int, of: int) -> "InceptionWidths":
        """All times width / of, rounded down, and at least 1."""
        return InceptionWidths(*(max(features * width // of, 1) for features in dataclasses.astuple(self)))


def naive_inception(block: Block, pool: nn.Module, one: int, three: int, five: int) -> Branches:
    """1x1, 3x3, 5x5 and pooling side by side (figure 2a of the paper): as many channels more as the input has.

    Args:
      block: see `Block`.
      pool: of a window of 3 at stride 1 that keeps the grid.
      one, three, five: features of the convolutions.
    """
    return Branches(
        (
            Named("branch1", block(one, 1, padding=0)),
            Named("branch2", block(three, 3, padding=1)),
            Named("branch3", block(five, 5, padding=2)),
            Named("branch4", pool),
        )
    )


def inception(block: Block, pool: nn.Module, widths: InceptionWidths, window: int = 5) -> Branches:
    """The module with dimension reductions (figure 2b): parameters under `branch1` to `branch4`, in the paper's order.

    Args:
      block: see `Block`.
      pool: of a window of 3 at stride 1 that keeps the grid.
      widths: features.
      window: of the third branch: the paper's 5; torchvision has 3, by mistake and for good.
    """

    def behind_reduction(reduction: int, features: int, window: int) -> Sequential:
        conv = block(features, window, padding=window // 2)
        return Sequential((Named("reduction", block(reduction, 1, padding=0)), Named("conv", conv)))

    projection = block(widths.pool_projection, 1, padding=0)
    return Branches(
        (
            Named("branch1", block(widths.one, 1, padding=0)),
            Named("branch2", behind_reduction(widths.three_reduction, widths.three, 3)),
            Named("branch3", behind_reduction(widths.five_reduction, widths.five, window)),
            Named("branch4", Sequential((Named("pool", pool), Named("projection", projection)))),
        )
    )
