"""Dense connectivity: each layer sees the outputs of all before it (Huang, Liu, van der Maaten and Weinberger 2017)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.config import RequestError
from cnnjax.layers.parts import Parts
from cnnjax.layers.preactivation import PreActivatedConv
from cnnjax.layers.sequence import Named, Sequential

_BOTTLENECK = 4  # features of the 1x1 convolution, over the growth rate


class DenselyConnected(nn.Module):
    """Layers whose input is the block's input and the outputs of all layers before, concatenated along channels.

    Attributes:
      layers: each keeps the grid.
    """

    layers: tuple[Named, ...]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *spatial, C + the sum of the layers' features], the input's channels first."""
        for layer in self.layers:
            x = jnp.concatenate([x, layer.inside(self)(x, train=train)], axis=-1)
        return x


def densely_connected(parts: Parts, depth: int, growth: int, *, bottleneck: bool = True) -> DenselyConnected:
    """`depth` layers that add `growth` channels each (`layer1`, ...): norm, detector and a 3x3 convolution.

    Args:
      parts: of the network.
      depth: layers.
      growth: the growth rate k.
      bottleneck: whether norm, detector and a 1x1 convolution to 4k channels come first (DenseNet-B).

    Raises:
      RequestError: for `valid` borders: what has shrunk cannot be concatenated.
    """
    if parts.padding == "valid":
        raise RequestError("padding 'valid' shrinks a densely connected layer; the others keep the grid")

    def layer() -> Sequential:
        reduction = [_preactivated(parts, _BOTTLENECK * growth, 1)] if bottleneck else []
        convs = [*reduction, _preactivated(parts, growth, 3)]
        return Sequential(tuple(Named(f"conv{i}", conv) for i, conv in enumerate(convs, start=1)))

    return DenselyConnected(tuple(Named(f"layer{i + 1}", layer()) for i in range(depth)))


def transition(parts: Parts, features: int) -> Sequential:
    """Norm, detector, a 1x1 convolution to so many features (`conv`), and pooling by 2."""
    return Sequential((Named("conv", _preactivated(parts, features, 1)), Named("pool", parts.pooling(2))))


def _preactivated(parts: Parts, features: int, window: int) -> PreActivatedConv:
    conv = parts.conv(features, window, padding=window // 2)
    return PreActivatedConv(conv, parts.detector, parts.normalisation())
