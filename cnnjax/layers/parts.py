"""The parts that every network is built from, chosen once, by name."""

import dataclasses
from typing import Any

from flax import linen as nn

from cnnjax.config import RequestError, choose
from cnnjax.layers.activations import ACTIVATIONS, Activation
from cnnjax.layers.blocks import ConvBlock, DenseBlock
from cnnjax.layers.connectivity import DenseConv, LocalConv
from cnnjax.layers.convolution import Conv, DepthwiseSeparableConv
from cnnjax.layers.dense import Dense
from cnnjax.layers.initialisers import INITIALISERS, starting_fields
from cnnjax.layers.normalisation import BIASED_NORMS, NORMS
from cnnjax.layers.pooling import POOLS, choose_window_pool, commutes
from cnnjax.ops.borders import Border
from cnnjax.ops.geometry import Padding

PADDINGS: dict[str, Border] = {
    "same": "zeros",
    "valid": "zeros",
    "reflect": "reflect",
    "circular": "circular",
    "causal": "zeros",
}
CONNECTIVITIES = ("conv", "separable", "local", "dense")
DOWNSAMPLINGS = ("stride", "blur")

_BLUR = 3  # of 2, 3 and 5, the size that Zhang 2019 finds good enough for its cost
_BLURRED_POOLS = {"max": "max_blur", "average": "blur", "stride": "blur"}


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a network's layers are made of.

    Attributes:
      act: a key of `ACTIVATIONS`.
      norm: a key of `NORMS`.
      pool: a key of `cnnjax.layers.pooling.POOLS`.
      padding: `same` for the network's own padding filled with zeros, `reflect` or `circular` for as much of another
        kind, `valid` for none, `causal` for zeros that all lie before the first dimension, time: no convolution sees
        what comes later (pooling does, within its windows).
      init: a key of `INITIALISERS`, for all layers but a linear head, which starts at LeCun's, unless it is `torch`,
        PyTorch's default for every kernel and bias of a network.
      connectivity: `conv`; `separable`, a kernel for each channel and then a 1x1 convolution in the place of every
        greater window (Howard 2017); `local`, the same windows with unshared weights; or `dense`, every input to every
        position.
      downsample: `stride`; or `blur`, a low-pass filter before each stride (Zhang 2019): a strided block convolves and
        detects at stride 1, then blurs at the stride; max pooling becomes `max_blur`, average pooling and subsampling
        a blur of 3. Odd grids are halved upwards. A convolution with pooling behind it keeps its own stride.
      pool_order: of the pool `lp`; 3 where None.
      axis_name: the axis of `jax.pmap` that batch statistics are shared over; None for one device.

    Raises:
      RequestError: for a name that is not there.
    """

    act: str = "relu"
    norm: str = "none"
    pool: str = "max"
    padding: str = "same"
    init: str = "he"
    connectivity: str = "conv"
    axis_name: str | None = None
    downsample: str = "stride"
    pool_order: float | None = None

    def __post_init__(self) -> None:
        tables: dict[str, Any] = {
            "act": ACTIVATIONS,
            "norm": NORMS,
            "padding": PADDINGS,
            "init": INITIALISERS,
            "connectivity": dict.fromkeys(CONNECTIVITIES),
            "downsample": dict.fromkeys(DOWNSAMPLINGS),
        }
        for field, table in tables.items():
            choose(table, getattr(self, field), field)
        choose_window_pool(self.pool)
        if self.connectivity == "dense" and self.padding not in ("same", "valid"):
            raise RequestError(f"connectivity 'dense' has no border: padding same or valid, not {self.padding!r}")
        if self.pool_order is not None and self.pool != "lp":
            raise RequestError(f"pool_order is of pool 'lp' alone; the pool is {self.pool!r}")
        if self.downsample == "blur" and self.pool not in {*_BLURRED_POOLS, *_BLURRED_POOLS.values(), "none"}:
            known = ", ".join(_BLURRED_POOLS)
            raise RequestError(f"downsample 'blur' takes the place of pool {known}, not of {self.pool!r}")

    @property
    def detector(self) -> Activation:
        """The elementwise nonlinearity."""
        return ACTIVATIONS[self.act]

    def conv(
        self,
        features: int,
        kernel_size: int | tuple[int, ...],
        *,
        strides: int = 1,
        padding: Padding = "same",
        dilation: int = 1,
        groups: int = 1,
        use_bias: bool | None = None,
    ) -> nn.Module:
        """A convolution, or what stands in its place; unless told otherwise, with a bias where no norm has one."""
        padding = self.padding if self.padding in ("valid", "causal") else padding
        fields: dict[str, Any] = {
            "features": features,
            "kernel_size": kernel_size,
            "strides": strides,
            "padding": padding,
            "dilation": dilation,
            "use_bias": self.norm not in BIASED_NORMS if use_bias is None else use_bias,
            **starting_fields(self.init),
        }
        border = PADDINGS[self.padding]
        pointwise = kernel_size == 1  # and there is nothing to separate
        if self.connectivity == "conv" or (self.connectivity == "separable" and pointwise):
            return Conv(**fields, groups=groups, border=border)
        if self.connectivity == "local":
            return LocalConv(**fields, groups=groups, border=border)
        if groups > 1:
            raise RequestError(f"connectivity {self.connectivity!r} has no groups; conv and local have")
        return DenseConv(**fields) if self.connectivity == "dense" else DepthwiseSeparableConv(**fields, border=border)

    def normalisation(self) -> nn.Module | None:
        """A norm of its own; None for none."""
        return NORMS[self.norm](self.axis_name)

    def pooling(self, window: int, strides: int | None = None, padding: Padding = "valid") -> nn.Module:
        """Down-sampling by windows; strides are the window where None."""
        padding = "valid" if self.padding == "valid" else padding
        strides = window if strides is None else strides
        name = self.pool
        if self.downsample == "blur" and strides > 1 and name in _BLURRED_POOLS:
            name = _BLURRED_POOLS[name]
            if name == "blur":
                return self.blur(strides)
        if name == "max_blur" and self.padding == "circular":
            padding = "same"  # the maxima go around the ring, as what blurs them does
        pool = choose_window_pool(name)(window, strides, padding, axis_name=self.axis_name)
        pool = pool if self.pool_order is None else pool.clone(order=self.pool_order)
        return pool.clone(border=PADDINGS[self.padding]) if hasattr(pool, "border") else pool

    def blur(self, strides: int) -> nn.Module:
        """A blur of 3 at every `strides`-th position, from the first one on."""
        return POOLS["blur"](_BLUR, strides, _BLUR // 2).clone(border=PADDINGS[self.padding])

    def block(
        self,
        features: int,
        kernel_size: int | tuple[int, ...],
        *,
        strides: int = 1,
        pool: nn.Module | None = None,
        **fields: Any,
    ) -> ConvBlock:
        """Convolution, norm, detector and, where given, pooling; `fields` are those of `conv`."""
        blurred = self.downsample == "blur" and strides > 1 and pool is None
        return ConvBlock(
            conv=self.conv(features, kernel_size, strides=1 if blurred else strides, **fields),
            norm=self.normalisation(),
            act=self.detector,
            pool=self.blur(strides) if blurred else pool,
            pool_first=commutes(self.pool, self.act) and self.downsample == "stride",
        )

    def dense(self, features: int) -> DenseBlock:
        """A dense layer and its detector."""
        return DenseBlock(Dense(features, **starting_fields(self.init)), self.detector)

    def linear_head(self, num_classes: int) -> Dense:
        """The dense layer to the logits."""
        return Dense(num_classes, **starting_fields("torch" if self.init == "torch" else "lecun"))
