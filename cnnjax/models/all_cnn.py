"""All-CNN-C (Springenberg, Dosovitskiy, Brox and Riedmiller 2015): strided convolutions in the place of pooling."""

from cnnjax.layers.dropout import Dropout
from cnnjax.layers.parts import Parts
from cnnjax.layers.region_pooling import REGION_POOLS
from cnnjax.layers.sequence import Named, Sequential
from cnnjax.models.network import Network, Stage


def all_cnn_c(
    num_classes: int,
    *,
    width: int = 96,
    downsample: str = "stride",
    norm: str = "none",
    act: str = "relu",
    padding: str = "same",
    init: str = "he",
    connectivity: str = "conv",
    dropout: float = 0.5,
    axis_name: str | None = None,
) -> Network:
    """`stage1` and `stage2`, three 3 x 3 convolutions each, the third at stride 2, of 96 and 192 maps; `stage3`, 3 x 3
    without padding and 1 x 1; and the `head`, a 1 x 1 convolution to the classes, averaged over all positions.

    On 32 x 32 x 3 with ten classes: 1,369,738 parameters, and the paper's 6 x 6 positions before the average. The
    paper's table has a ReLU behind the last convolution too; here the head is linear, as in all other networks.

    Args:
      num_classes: logits of the head.
      width: maps of the first stage; the others have twice as many.
      downsample, norm, act, padding, init, connectivity: as in `cnnjax.layers.parts.Parts`.
      dropout: the rate behind each strided convolution; of the input two fifths of it, which makes the paper's 0.2.
      axis_name: the axis of `jax.pmap` that batch statistics are shared over; None for one device.

    Raises:
      RequestError: for a name that is not there.
    """
    parts = Parts(
        act=act,
        norm=norm,
        padding=padding,
        init=init,
        connectivity=connectivity,
        axis_name=axis_name,
        downsample=downsample,
    )
    wide = 2 * width
    stage1 = (
        Named("dropout", Dropout(0.4 * dropout, axis_name)),
        Named("block1", parts.block(width, 3, padding=1)),
        Named("block2", parts.block(width, 3, padding=1)),
        Named("block3", parts.block(width, 3, padding=1, strides=2)),
    )
    stage2 = (
        Named("dropout", Dropout(dropout, axis_name)),
        Named("block1", parts.block(wide, 3, padding=1)),
        Named("block2", parts.block(wide, 3, padding=1)),
        Named("block3", parts.block(wide, 3, padding=1, strides=2)),
    )
    stage3 = (
        Named("dropout", Dropout(dropout, axis_name)),
        Named("block1", parts.block(wide, 3, padding="valid")),
        Named("block2", parts.block(wide, 1)),
    )
    logits = parts.conv(num_classes, 1, use_bias=True)
    head = (Named("conv", logits), Named("pool", REGION_POOLS["global_average"]()))
    named = {"stage1": stage1, "stage2": stage2, "stage3": stage3, "head": head}
    return Network(tuple(Stage(name, Sequential(layers)) for name, layers in named.items()))
