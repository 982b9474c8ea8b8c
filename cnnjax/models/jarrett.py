"""The feature extractors of Jarrett, Kavukcuoglu, Ranzato and LeCun 2009, "What is the best multi-stage architecture
for object recognition?"."""

import jax
import jax.numpy as jnp

from cnnjax.config import choose
from cnnjax.layers.activations import ACTIVATIONS, Activation
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.parts import Parts
from cnnjax.layers.preactivation import PreActivation
from cnnjax.layers.sequence import Named, Sequential
from cnnjax.models.network import Network, Stage


def abs_tanh(x: jax.Array) -> jax.Array:
    """|tanh x|: the squashing of a filter bank, then rectification."""
    return jnp.abs(jnp.tanh(x))


DETECTORS: dict[str, Activation] = {"abs_tanh": abs_tanh} | ACTIVATIONS


def jarrett(
    num_classes: int,
    *,
    width: int = 16,
    depth: int = 2,
    kernel_size: int = 5,
    pool: str = "average",
    pool_size: int = 2,
    norm: str = "local_contrast",
    act: str = "abs_tanh",
    padding: str = "same",
    init: str = "he",
    connectivity: str = "conv",
    dropout: float = 0.0,
    axis_name: str | None = None,
) -> Network:
    """`depth` stages of convolution, detector, norm and pooling, in this order, and a linear `head`.

    With the paper's letters a stage is F_CSG - R_abs - N - P_A by default; `act="tanh"` leaves out the rectification
    R_abs, `norm="none"` the normalisation N, and `pool="max"` is P_M. Stage i has `width` * 4^(i - 1) feature maps: the
    paper's 64 and 256 in proportion. It takes as many spatial dimensions as its input has. `dropout` stands before the
    head.

    Sizes are chosen for images of 28 x 28: windows of 5 and pooling of 2, where the paper has 9 x 9 filters, pooling of
    10 at stride 5, then of 6 at stride 4, and no padding (`padding="valid"`) for images of 143 x 143. Unlike there, a
    map of the second stage sees all maps of the first, not 16 drawn ones, and no gain follows the squashing.

    Args:
      num_classes: logits of the head.
      width: maps of the first stage.
      depth: stages.
      kernel_size: of all convolutions.
      pool, pool_size: a key of `cnnjax.layers.pooling.POOLS`, and its window and stride.
      norm: behind the detector; a key of `cnnjax.layers.normalisation.NORMS`.
      act: a key of `DETECTORS`.
      padding, init, connectivity, axis_name: as in `cnnjax.layers.parts.Parts`.
      dropout: the rate.

    Raises:
      RequestError: for a name that is not there.
    """
    parts = Parts(norm=norm, pool=pool, padding=padding, init=init, connectivity=connectivity, axis_name=axis_name)
    detector = choose(DETECTORS, act, "act")
    stages = [
        Stage(f"stage{i + 1}", _stage(parts, width * 4**i, kernel_size, detector, pool_size)) for i in range(depth)
    ]
    head = (Named("dropout", Dropout(dropout, axis_name)), Named("layer", parts.linear_head(num_classes)))
    return Network((*stages, Stage("head", Sequential(head))))


def _stage(parts: Parts, features: int, kernel_size: int, detector: Activation, pool_size: int) -> Sequential:
    # A norm behind the detector cannot take the place of the convolution's bias.
    conv = parts.conv(features, kernel_size, use_bias=True)
    norm = parts.normalisation()
    return Sequential(
        (
            Named("conv", conv),
            Named("detector", PreActivation(detector)),
            *(() if norm is None else (Named("norm", norm),)),
            Named("pool", parts.pooling(pool_size)),
        )
    )
