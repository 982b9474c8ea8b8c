"""The small configurable network of the ablations: convolution blocks of doubling width, then a linear head."""

from cnnjax.config import choose
from cnnjax.layers.activations import ACTIVATIONS
from cnnjax.layers.blocks import ConvBlock, DropoutThen
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.initialisers import INITIALISERS
from cnnjax.layers.normalisation import NORMS
from cnnjax.layers.pooling import POOLS, commutes, pool_by
from cnnjax.models.network import Network, Stage


def convnet(
    num_classes: int,
    *,
    width: int = 16,
    depth: int = 2,
    kernel_size: int = 5,
    pool: str = "max",
    pool_size: int = 2,
    norm: str = "none",
    act: str = "relu",
    padding: str = "same",
    init: str = "he",
    dropout: float = 0.0,
    axis_name: str | None = None,
) -> Network:
    """`depth` stages of convolution, norm, detector and pooling (`stage1`, ...), and a linear `head`.

    It takes as many spatial dimensions as its input has. Stage i has `width` * 2^(i - 1) feature maps; `dropout` stands
    before the head.
    """
    kernel_init = choose(INITIALISERS, init, "init")
    make_norm = choose(NORMS, norm, "norm")
    stages = [
        Stage(
            f"stage{i + 1}",
            ConvBlock(
                conv=Conv(width * 2**i, kernel_size, padding=padding, kernel_init=kernel_init),
                norm=make_norm(axis_name),
                act=choose(ACTIVATIONS, act, "act"),
                pool=pool_by(choose(POOLS, pool, "pool"), pool_size),
                pool_first=commutes(pool, act),
            ),
        )
        for i in range(depth)
    ]
    head = DropoutThen(Dropout(dropout, axis_name), Dense(num_classes, kernel_init=INITIALISERS["lecun"]))
    return Network((*stages, Stage("head", head)))
