"""VGG (Simonyan and Zisserman 2014): small windows, and many of them."""

import functools
from collections.abc import Callable

from cnnjax.config import choose
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.parts import Parts
from cnnjax.layers.region_pooling import REGION_POOLS
from cnnjax.layers.sequence import Named, Sequential
from cnnjax.models.network import Network, Stage


def vgg(
    convolutions: tuple[int, ...],
    num_classes: int,
    *,
    width: int = 64,
    stem: str = "imagenet",
    pool: str = "max",
    norm: str = "none",
    act: str = "relu",
    padding: str = "same",
    init: str = "he",
    connectivity: str = "conv",
    dropout: float = 0.5,
    axis_name: str | None = None,
) -> Network:
    """`stage1` to `stage5` of 3 x 3 convolutions, each pooled by 2; two dense layers (`stage6`, `stage7`); `head`.

    The stages have 64, 128, 256, 512 and 512 maps. As in torchvision, the convolutions keep their biases where a norm
    follows, adaptive average pooling to 7 x 7 stands before the dense layers, and dropout behind each of them.

    Args:
      convolutions: of each of the five stages.
      num_classes: logits of the head.
      width: maps of the first stage, all other layers in proportion.
      stem: `imagenet`, dense layers of 4096; or `small`, for images of about 32 x 32: adaptive pooling to one
        position, and dense layers of 512.
      pool, norm, act, padding, init, connectivity: as in `cnnjax.layers.parts.Parts`.
      dropout: the rate.
      axis_name: the axis of `jax.pmap` that batch statistics are shared over; None for one device.

    Raises:
      RequestError: for a name that is not there.
    """
    positions, dense = choose({"imagenet": (7, 64 * width), "small": (1, 8 * width)}, stem, "stem")
    parts = Parts(act, norm, pool, padding, init, connectivity, axis_name)
    stages = [
        Stage(f"stage{i + 1}", _convolutions(parts, count, width * min(2**i, 8)))
        for i, count in enumerate(convolutions)
    ]
    adaptive, logits = REGION_POOLS["adaptive_average"](positions), parts.linear_head(num_classes)
    stages += [
        Stage("stage6", Sequential((Named("pool", adaptive), Named("block", parts.dense(dense))))),
        Stage(
            "stage7", Sequential((Named("dropout", Dropout(dropout, axis_name)), Named("block", parts.dense(dense))))
        ),
        Stage("head", Sequential((Named("dropout", Dropout(dropout, axis_name)), Named("dense", logits)))),
    ]
    return Network(tuple(stages))


def _convolutions(parts: Parts, count: int, features: int) -> Sequential:
    """Blocks `block1`, `block2`, ..., the last of them pooled."""
    pools = [*[None] * (count - 1), parts.pooling(2)]
    blocks = [parts.block(features, 3, padding=1, use_bias=True, pool=pool) for pool in pools]
    return Sequential(tuple(Named(f"block{i + 1}", block) for i, block in enumerate(blocks)))


CONVOLUTIONS: dict[str, tuple[int, ...]] = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}

VGGS: dict[str, Callable[..., Network]] = {
    **{name: functools.partial(vgg, counts) for name, counts in CONVOLUTIONS.items()},
    **{f"{name}_bn": functools.partial(vgg, counts, norm="batch") for name, counts in CONVOLUTIONS.items()},
}
"""The configurations A, B, D and E of the paper, and the same with batch normalisation."""
