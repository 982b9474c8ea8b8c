"""LeNet-1 (LeCun 1989) and LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998)."""

import functools
from collections.abc import Callable
from typing import Any

from flax import linen as nn

from cnnjax.config import RequestError, choose
from cnnjax.layers.activations import Activation
from cnnjax.layers.blocks import ConvBlock
from cnnjax.layers.initialisers import starting_fields
from cnnjax.layers.lenet import (
    LENET5_TABLE,
    EuclideanCodes,
    SparseConv,
    TrainedSubsampling,
    UnitBias,
    cyclic_table,
    scaled_tanh,
)
from cnnjax.layers.parts import PADDINGS, Parts
from cnnjax.models.network import Network, Stage
from cnnjax.ops.geometry import UpTo

_FRAME = UpTo(32)


def lenet1(
    num_classes: int,
    *,
    width: int = 12,
    norm: str = "none",
    act: str | None = None,
    padding: str = "same",
    init: str = "lecun",
    connectivity: str = "conv",
    axis_name: str | None = None,
) -> Network:
    """The first convolutional network trained by back-propagation on digits, of 16 x 16.

    H1 (`stage1`) and H2 (`stage2`) have 12 maps of 5 x 5 windows at stride 2, with a bias for each unit, and each map
    of H2 sees 8 of the 12; H3 (`stage3`) has 30 units. On 16 x 16 x 1 with ten classes: 9,760 parameters.

    Where the paper is silent or odd: it does not print which 8 maps; here map i sees i to i + 7, counted on a ring. Its
    plane continues with -1 beyond the border; here with 0, or as `padding` says. Its ten outputs are squashed too, for
    a mean squared error; here the `head` is linear, for cross-entropy.

    Args:
      num_classes: logits of the head.
      width: maps of H1; those of H2, what they see, and H3 are in proportion.
      act: the detector; when None the paper's, 1.7159 tanh(2 x / 3).
      norm, padding, init, connectivity: as in `cnnjax.layers.parts.Parts`; the biases of the units start at 0. Where
        the connectivity is not the paper's `conv`, each map of H2 sees all of H1.
      axis_name: the axis of `jax.pmap` that batch statistics are shared over; None for one device.

    Raises:
      RequestError: for a name that is not there.
    """
    parts = Parts(act or "tanh", norm, "none", padding, init, connectivity, axis_name)
    detector = _detector(act)
    fields: dict[str, Any] = {"strides": 2, "padding": 2, "use_bias": False}
    h1 = parts.conv(width, 5, **fields)
    table = cyclic_table(width, width, max(2 * width // 3, 1))
    h2 = _sparse_conv(parts, table, **fields) if connectivity == "conv" else parts.conv(width, 5, **fields)
    return Network(
        (
            Stage("stage1", ConvBlock(UnitBias(h1), detector, parts.normalisation())),
            Stage("stage2", ConvBlock(UnitBias(h2), detector, parts.normalisation())),
            Stage("stage3", parts.dense(5 * width // 2).clone(act=detector)),
            Stage("head", parts.linear_head(num_classes)),
        )
    )


def lenet5(
    num_classes: int,
    *,
    form: str = "modern",
    width: int = 6,
    pool: str | None = None,
    norm: str = "none",
    act: str | None = None,
    padding: str = "same",
    init: str | None = None,
    connectivity: str = "conv",
    axis_name: str | None = None,
) -> Network:
    """Two convolution blocks of 6 and 16 maps (5x5, pooled by 2), dense layers of 120 and 84, and a head.

    The first convolution pads images of 28 x 28 by 2 to the paper's 32 x 32, and those of 32 x 32 or more not at all.
    With one channel and ten classes there are as many parameters on both:

    - `modern`, 61,706: full connections in C3, ReLU, max pooling, a linear head.
    - `original`, 60,000: the published table of C3, 1.7159 tanh(2 x / 3) as the detector, sub-sampling with a trained
      coefficient and bias, and a head of distances to fixed codes (`cnnjax.layers.lenet.EuclideanCodes`).

    Args:
      num_classes: logits of the head.
      form: `modern` or `original`.
      width: maps of C1, all other layers in proportion; 6 in the original.
      pool, act, init: when None those of the form; `init` is `he` in the modern form and `lecun` in the original.
      norm, connectivity: `none` and `conv` in the original.
      padding: as in `cnnjax.layers.parts.Parts`.
      axis_name: the axis of `jax.pmap` that batch statistics are shared over; None for one device.

    Raises:
      RequestError: for a name that is not there, or a field that the original cannot have.
    """
    choose(dict.fromkeys(("modern", "original")), form, "form of lenet5")
    parts = Parts(
        act=act or "relu",
        norm=norm,
        pool=pool or "max",
        padding=padding,
        init=init or ("he" if form == "modern" else "lecun"),
        connectivity=connectivity,
        axis_name=axis_name,
    )
    if form == "modern":
        return _modern(num_classes, width, parts)
    for field, value, only in (("width", width, 6), ("norm", norm, "none"), ("connectivity", connectivity, "conv")):
        if value != only:
            raise RequestError(f"the original lenet5 has {field} {only}, not {value}; the form modern takes others")
    detector = _detector(act)
    subsampling = functools.partial(TrainedSubsampling, 2, detector)
    return _original(num_classes, parts, detector, subsampling if pool is None else lambda: parts.pooling(2))


def _modern(num_classes: int, width: int, parts: Parts) -> Network:
    return Network(
        (
            Stage("stage1", parts.block(width, 5, pool=parts.pooling(2), padding=_FRAME)),
            Stage("stage2", parts.block(8 * width // 3, 5, pool=parts.pooling(2), padding="valid")),
            Stage("stage3", parts.dense(20 * width)),
            Stage("stage4", parts.dense(14 * width)),
            Stage("head", parts.linear_head(num_classes)),
        )
    )


def _original(num_classes: int, parts: Parts, detector: Activation, pooling: Callable[[], nn.Module]) -> Network:
    return Network(
        (
            Stage("stage1", ConvBlock(parts.conv(6, 5, padding=_FRAME), detector, pool=pooling())),
            Stage("stage2", ConvBlock(_sparse_conv(parts, LENET5_TABLE, padding="valid"), detector, pool=pooling())),
            Stage("stage3", parts.dense(120).clone(act=detector)),
            Stage("stage4", parts.dense(84).clone(act=detector)),
            Stage("head", EuclideanCodes(num_classes)),
        )
    )


def _detector(act: str | None) -> Activation:
    return scaled_tanh if act is None else Parts(act=act).detector


def _sparse_conv(parts: Parts, table: tuple[tuple[int, ...], ...], **fields: Any) -> nn.Module:
    fields["padding"] = "valid" if parts.padding == "valid" else fields["padding"]
    return SparseConv(table, 5, border=PADDINGS[parts.padding], **starting_fields(parts.init), **fields)
