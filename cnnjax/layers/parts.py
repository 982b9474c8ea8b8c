"""The parts that every network is built from, chosen once, by name."""

import dataclasses
from typing import Any

from flax import linen as nn

from cnnjax.config import RequestError, choose
from cnnjax.layers.activations import ACTIVATIONS, Activation
from cnnjax.layers.blocks import ConvBlock, DenseBlock
from cnnjax.layers.connectivity import DenseConv, LocalConv
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.layers.initialisers import INITIALISERS, starting_fields
from cnnjax.layers.normalisation import BIASED_NORMS, NORMS
from cnnjax.layers.pooling import choose_window_pool, commutes
from cnnjax.ops.borders import Border
from cnnjax.ops.geometry import Padding

PADDINGS: dict[str, Border] = {
    "same": "zeros",
    "valid": "zeros",
    "reflect": "reflect",
    "circular": "circular",
    "causal": "zeros",
}
CONNECTIVITIES = ("conv", "local", "dense")


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
      connectivity: `conv`; `local`, the same windows with unshared weights; or `dense`, every input to every position.
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

    def __post_init__(self) -> None:
        tables: dict[str, Any] = {
            "act": ACTIVATIONS,
            "norm": NORMS,
            "padding": PADDINGS,
            "init": INITIALISERS,
            "connectivity": dict.fromkeys(CONNECTIVITIES),
        }
        for field, table in tables.items():
            choose(table, getattr(self, field), field)
        choose_window_pool(self.pool)
        if self.connectivity != "conv" and self.padding in ("reflect", "circular"):
            raise RequestError(f"connectivity {self.connectivity!r} takes padding same or valid, not {self.padding!r}")

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
        bias = self.norm not in BIASED_NORMS if use_bias is None else use_bias
        shape = (features, kernel_size, strides, self.padding if self.padding in ("valid", "causal") else padding)
        starts = starting_fields(self.init)
        if self.connectivity == "conv":
            border = PADDINGS[self.padding]
            return Conv(*shape, dilation=dilation, groups=groups, border=border, use_bias=bias, **starts)
        if groups > 1 or dilation > 1:
            raise RequestError(f"connectivity {self.connectivity!r} has no groups and no dilation; only conv has")
        layer = LocalConv if self.connectivity == "local" else DenseConv
        return layer(*shape, use_bias=bias, **starts)

    def normalisation(self) -> nn.Module | None:
        """A norm of its own; None for none."""
        return NORMS[self.norm](self.axis_name)

    def pooling(self, window: int, strides: int | None = None, padding: Padding = "valid") -> nn.Module:
        """Down-sampling by windows; strides are the window where None."""
        padding = "valid" if self.padding == "valid" else padding
        pool = choose_window_pool(self.pool)(window, strides, padding, axis_name=self.axis_name)
        return pool.clone(border=PADDINGS[self.padding]) if hasattr(pool, "border") else pool

    def block(
        self, features: int, kernel_size: int | tuple[int, ...], *, pool: nn.Module | None = None, **fields: Any
    ) -> ConvBlock:
        """Convolution, norm, detector and, where given, pooling; `fields` are those of `conv`."""
        return ConvBlock(
            conv=self.conv(features, kernel_size, **fields),
            norm=self.normalisation(),
            act=self.detector,
            pool=pool,
            pool_first=commutes(self.pool, self.act),
        )

    def dense(self, features: int) -> DenseBlock:
        """A dense layer and its detector."""
        return DenseBlock(Dense(features, **starting_fields(self.init)), self.detector)

    def linear_head(self, num_classes: int) -> Dense:
        """The dense layer to the logits."""
        return Dense(num_classes, **starting_fields("torch" if self.init == "torch" else "lecun"))
