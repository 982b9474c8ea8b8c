"""The small configurable network of the ablations: convolution blocks of doubling width, then a linear head."""

from cnnjax.config import RequestError, choose
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.parts import Parts
from cnnjax.layers.pooling import POOLS
from cnnjax.layers.region_pooling import REGION_POOLS, region_pool
from cnnjax.layers.sequence import Named, Sequential
from cnnjax.models.network import Network, Stage


def convnet(
    num_classes: int,
    *,
    width: int = 16,
    depth: int = 2,
    kernel_size: int = 5,
    dilation: int = 1,
    pool: str = "max",
    pool_size: int | None = None,
    pool_stride: int | None = None,
    pool_order: float | None = None,
    downsample: str = "stride",
    norm: str = "none",
    act: str = "relu",
    padding: str = "same",
    init: str = "he",
    connectivity: str = "conv",
    dropout: float = 0.0,
    axis_name: str | None = None,
) -> Network:
    """`depth` stages of convolution, norm, detector and pooling (`stage1`, ...), and a linear `head`.

    It takes as many spatial dimensions as its input has.

    Args:
      num_classes: logits of the head.
      width: feature maps of the first stage; each further one has twice as many.
      depth: stages with a convolution.
      kernel_size: of every convolution.
      dilation: between two elements of its window.
      pool: of windows, a key of `cnnjax.layers.pooling.POOLS`, in each stage; or of regions, a key of
        `cnnjax.layers.region_pooling.REGION_POOLS`, in the place of the last stage's windows, the others having max
        pooling: `pyramid`, `dynamic` or `learned` regions, `adaptive_average` or `adaptive_max` to so many positions,
        `global_average` or `global_max`. The head then sees as many features whatever the input's size, but for
        `learned`, which has a weight for each position.
      pool_size: of the windows, 2 where None; and of the regions, see `region_pool` there: along each dimension as many
        positions, quadrants or levels, and as many dynamic regions as its square.
      pool_stride: of the windows; None for their size, so that they do not overlap.
      pool_order, downsample, norm, act, padding, init, connectivity: as in `cnnjax.layers.parts.Parts`.
      dropout: the rate before the head.
      axis_name: the axis of `jax.pmap` that statistics are shared over; None for one device.

    Raises:
      RequestError: for a name that is not there, or a size or stride of windows where there are none.
    """
    choose({**POOLS, **REGION_POOLS}, pool, "pool")
    windowless = pool == "none" or (pool in REGION_POOLS and depth == 1)
    if windowless and pool_stride is not None:
        raise RequestError(f"pool {pool!r} has no windows here, and no pool_stride; leave it out")
    if windowless and pool in ("none", "global_average", "global_max") and pool_size is not None:
        raise RequestError(f"pool {pool!r} has no windows here, and no pool_size; leave it out")
    if dilation > 1 and kernel_size == 1:
        raise RequestError(f"a kernel_size of 1 has nothing to dilate; leave the dilation of {dilation} out")
    if downsample == "blur" and (windowless or pool == "max_blur"):
        raise RequestError(f"downsample 'blur' has no stride to blur here, with pool {pool!r}; leave it out")
    windows = "max" if pool in REGION_POOLS else pool
    parts = Parts(act, norm, windows, padding, init, connectivity, axis_name, downsample, pool_order)
    size = 2 if pool_size is None else pool_size
    blocks = [
        parts.block(width * 2**i, kernel_size, dilation=dilation, pool=parts.pooling(size, pool_stride))
        for i in range(depth)
    ]
    if pool in REGION_POOLS:
        blocks[-1] = blocks[-1].clone(pool=region_pool(pool, size, axis_name), pool_first=False)
    stages = [Stage(f"stage{i}", block) for i, block in enumerate(blocks, start=1)]
    head = (Named("dropout", Dropout(dropout, axis_name)), Named("layer", parts.linear_head(num_classes)))
    return Network((*stages, Stage("head", Sequential(head))))


def convnet_mnist1d(
    num_classes: int,
    *,
    width: int = 25,
    downsample: str = "stride",
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
    parts = Parts(
        act=act,
        norm=norm,
        padding=padding,
        init=init,
        connectivity=connectivity,
        axis_name=axis_name,
        downsample=downsample,
    )
    stages = [
        Stage(f"stage{i + 1}", parts.block(width, window, strides=2, padding=1)) for i, window in enumerate((5, 3, 3))
    ]
    return Network((*stages, Stage("head", parts.linear_head(num_classes))))
