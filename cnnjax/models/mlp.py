"""The dense baseline of MNIST-1D (Greydanus 2020)."""

from flax import linen as nn

from cnnjax.config import RequestError
from cnnjax.layers.activations import identity
from cnnjax.layers.parts import Parts
from cnnjax.layers.residual import ResidualBlock
from cnnjax.layers.sequence import Sequential
from cnnjax.models.network import Network, Stage


def mlp(
    num_classes: int,
    *,
    width: int = 100,
    norm: str = "none",
    act: str = "relu",
    init: str = "he",
    axis_name: str | None = None,
) -> Network:
    """Two dense layers of `width` features, the second with a skip around it, and a linear `head`.

    The input is flattened, whatever its dimensions. On 40 x 1 with ten classes it has 15,210 parameters.

    Args:
      num_classes: logits of the head.
      width: features.
      norm: between each dense layer and its detector.
      act, init: as in `cnnjax.layers.parts.Parts`.
      axis_name: the axis of `jax.pmap` that batch statistics are shared over; None for one device.

    Raises:
      RequestError: for a name that is not there, or a norm that needs a grid.
    """
    if norm == "local_contrast":
        raise RequestError("norm 'local_contrast' needs a grid, which dense layers have not; an mlp takes others")
    parts = Parts(act=act, norm=norm, init=init, axis_name=axis_name)

    def layer() -> nn.Module:
        return parts.dense(width).clone(norm=parts.normalisation())

    return Network(
        (
            Stage("stage1", layer()),
            Stage("stage2", ResidualBlock(layer(), shortcut=Sequential(()), act=identity)),
            Stage("head", parts.linear_head(num_classes)),
        )
    )
