"""The small configurable network of the ablations: convolution blocks of doubling width, then a linear head."""

from cnnjax.layers.blocks import DropoutThen
from cnnjax.layers.dense import Dense
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.parts import Parts
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
    connectivity: str = "conv",
    dropout: float = 0.0,
    axis_name: str | None = None,
) -> Network:
    """`depth` stages of convolution, norm, detector and pooling (`stage1`, ...), and a linear `head`.

    It takes as many spatial dimensions as its input has. Stage i has `width` * 2^(i - 1) feature maps; `dropout` stands
    before the head.
    """
    parts = Parts(act, norm, pool, padding, init, connectivity, axis_name)
    stages = [
        Stage(
            f"stage{i + 1}",
            parts.block(width * 2**i, kernel_size, pool=parts.pooling(pool_size)),
        )
        for i in range(depth)
    ]
    return Network((*stages, Stage("head", DropoutThen(Dropout(dropout, axis_name), Dense(num_classes)))))


def convnet_mnist1d(
    num_classes: int,
    *,
    width: int = 25,
    norm: str = "none",
    act: str = "relu",
    padding: str = "same",
    init: str = "he",
    connectivity: str = "conv",
    axis_name: str | None = None,
) -> Network:
    """The convolutional baseline of MNIST-1D (Greydanus 2020): three convolutions at stride 2, and a linear `head`.

    `stage1` to `stage3` have `width` feature maps each, windows of 5, 3 and 3, padding 1, and no pooling. It takes as
    many spatial dimensions as its input has. On 40 x 1 with ten classes it has 5,210 parameters.
    """
    parts = Parts(act=act, norm=norm, padding=padding, init=init, connectivity=connectivity, axis_name=axis_name)
    stages = [
        Stage(f"stage{i + 1}", parts.block(width, window, strides=2, padding=1)) for i, window in enumerate((5, 3, 3))
    ]
    return Network((*stages, Stage("head", Dense(num_classes))))
