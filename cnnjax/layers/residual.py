"""Residual blocks (He, Zhang, Ren and Sun 2016a, "Deep residual learning"; 2016b, "Identity mappings")."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.config import RequestError, choose
from cnnjax.layers.activations import Activation, identity
from cnnjax.layers.parts import Parts
from cnnjax.layers.preactivation import PreActivatedConv, PreActivation
from cnnjax.layers.sequence import Named, Sequential

BlockKind = Literal["basic", "bottleneck"]
FORMS = ("v1.5", "preactivation")
EXPANSION: dict[BlockKind, int] = {"basic": 1, "bottleneck": 4}
"""A block's features out, over the features that it is named by."""


class ResidualBlock(nn.Module):
    """act(branch(x) + x), or act(branch(x) + shortcut(x)) where the branch changes the shape.

    Attributes:
      branch: the layers, without the last detector.
      shortcut: to the branch's shape; None for no shortcut at all, not even where shapes agree: act(branch(x)).
      act: the last detector.
    """

    branch: nn.Module
    shortcut: nn.Module | None
    act: Activation

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, features]."""
        y = self.branch(x, train=train)
        if self.shortcut is None:
            return self.act(y)
        return self.act(y + (x if x.shape == y.shape else self.shortcut(x, train=train)))


class PreActivatedResidualBlock(nn.Module):
    """branch(a) + x, or branch(a) + shortcut(a) where the branch changes the shape, with a = activation(x).

    Nothing stands on the way from a block's output to the next one's: the network's end needs a last activation.

    Attributes:
      activation: in front of branch and shortcut; None where the input is activated already.
      branch: the layers.
      shortcut: to the branch's shape; None for no shortcut at all.
    """

    activation: nn.Module | None
    branch: nn.Module
    shortcut: nn.Module | None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, features]."""
        activated = x if self.activation is None else self.activation(x, train=train)
        y = self.branch(activated, train=train)
        if self.shortcut is None:
            return y
        return y + (x if x.shape == y.shape else self.shortcut(activated, train=train))


class PaddedShortcut(nn.Module):
    """Every `strides`-th position, and channels of zeros behind the input's (shortcut A); no parameters."""

    features: int
    strides: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, features].

        Raises:
          ValueError: if there are fewer features than channels.
        """
        del train
        if self.features < x.shape[-1]:
            raise ValueError(
                f"a padded shortcut cannot take {x.shape[-1]} channels to {self.features}: project instead"
            )
        x = x[:, *[slice(None, None, self.strides)] * (x.ndim - 2)]
        return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, self.features - x.shape[-1])])


def _projected(parts: Parts, features: int, strides: int, form: str) -> nn.Module:
    # Behind a pre-activation the input is normalised already.
    if form == "preactivation":
        return parts.conv(features, 1, strides=strides, padding=0)
    return parts.block(features, 1, strides=strides, padding=0).clone(act=identity)


SHORTCUTS: dict[str, Callable[[Parts, int, int, str], nn.Module | None]] = {
    "projected": _projected,
    "padded": lambda parts, features, strides, form: PaddedShortcut(features, strides),
    "none": lambda parts, features, strides, form: None,
}
"""What stands where a block changes the shape: a 1x1 convolution and its norm (He 2016a's B), `PaddedShortcut` (A), or
`none`: a plain network, which has no shortcut anywhere. The identity stands wherever shapes agree."""


def residual_block(
    parts: Parts,
    kind: BlockKind,
    features: int,
    strides: int = 1,
    *,
    form: str = "v1.5",
    shortcut: str = "projected",
    activated: bool = False,
) -> ResidualBlock | PreActivatedResidualBlock:
    """A residual block, with parameters under `branch/conv1`, `branch/conv2`, ..., `shortcut` and `activation`.

    Args:
      parts: of the network.
      kind: `basic`, two convolutions of 3x3; or `bottleneck`, 1x1, 3x3, and 1x1 to four times the features.
      features: of the 3x3 convolutions.
      strides: of the first 3x3 convolution. In a bottleneck that is v1.5, as trained by everyone since; the paper's
        figure has the stride on the first 1x1.
      form: `v1.5`: convolution, norm, detector, and the last detector behind the sum; or `preactivation`: norm,
        detector, convolution, and nothing behind the sum. With `parts.downsample` of `blur`, the strides are those of
        a blur behind the next detector, and of one in front of the shortcut, as in Zhang 2019.
      shortcut: a key of `SHORTCUTS`.
      activated: whether the input has been through norm and detector already; a block with pre-activation then has none
        of its own in front.

    Raises:
      RequestError: for an unknown kind, form or shortcut, or `valid` borders, between which nothing can be added.
    """
    choose(dict.fromkeys(get_args(BlockKind)), kind, "block")
    choose(dict.fromkeys(FORMS), form, "form")
    if parts.padding == "valid" and shortcut != "none":
        raise RequestError("padding 'valid' shrinks a residual block's branch; the others keep the grid")
    features_out = features * EXPANSION[kind]
    make_shortcut = choose(SHORTCUTS, shortcut, "shortcut")
    blurred = parts.downsample == "blur" and strides > 1
    skip = make_shortcut(parts, features_out, 1 if blurred else strides, form)
    if blurred and skip is not None:
        skip = _behind_blur(parts, strides, skip)
    if kind == "basic":
        layers = [(features, 3, strides), (features, 3, 1)]
    else:
        layers = [(features, 1, 1), (features, 3, strides), (features_out, 1, 1)]
    if form == "v1.5":
        blocks = [parts.block(f, window, strides=s, padding=window // 2) for f, window, s in layers]
        blocks[-1] = blocks[-1].clone(act=identity)
        return ResidualBlock(_branch(blocks), skip, parts.detector)
    convs = [parts.conv(f, window, strides=1 if blurred else s, padding=window // 2) for f, window, s in layers]
    if blurred:
        convs[-1] = _behind_blur(parts, strides, convs[-1])
    activation = None if activated else PreActivation(parts.detector, parts.normalisation())
    rest = [PreActivatedConv(conv, parts.detector, parts.normalisation()) for conv in convs[1:]]
    return PreActivatedResidualBlock(activation, _branch([convs[0], *rest]), skip)


def _behind_blur(parts: Parts, strides: int, layer: nn.Module) -> Sequential:
    return Sequential((Named("blur", parts.blur(strides)), Named("layer", layer)))


def _branch(layers: Sequence[nn.Module]) -> Sequential:
    return Sequential(tuple(Named(f"conv{i}", layer) for i, layer in enumerate(layers, start=1)))
