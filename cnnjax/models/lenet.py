"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998), in its modern form."""

from cnnjax.config import choose
from cnnjax.layers.activations import ACTIVATIONS
from cnnjax.layers.blocks import ConvBlock, DenseBlock
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.layers.initialisers import INITIALISERS
from cnnjax.layers.pooling import POOLS, commutes, pool_by
from cnnjax.models.network import Network, Stage


def lenet5(num_classes: int, *, pool: str = "max", act: str = "relu", init: str = "he") -> Network:
    """Two convolution blocks of 6 and 16 maps (5x5, pooled by 2), dense layers of 120 and 84, and a linear head.

    The modern form: full connections in C3, ReLU and max pooling. Images of 28 x 28 are padded by 2 to the paper's
    32 x 32 by the first convolution (`same`); on 32 x 32 x 1 with `valid` borders it has 61,706 parameters, and on
    28 x 28 x 1 as many.
    """
    kernel_init = choose(INITIALISERS, init, "init")
    detector = choose(ACTIVATIONS, act, "act")
    halve = pool_by(choose(POOLS, pool, "pool"), 2)

    def conv(features: int, padding: str) -> ConvBlock:
        layer = Conv(features, 5, padding=padding, kernel_init=kernel_init)
        return ConvBlock(conv=layer, act=detector, pool=halve, pool_first=commutes(pool, act))

    def dense(features: int) -> DenseBlock:
        return DenseBlock(Dense(features, kernel_init=kernel_init), detector)

    return Network(
        (
            Stage("stage1", conv(6, "same")),
            Stage("stage2", conv(16, "valid")),
            Stage("stage3", dense(120)),
            Stage("stage4", dense(84)),
            Stage("head", Dense(num_classes)),
        )
    )
