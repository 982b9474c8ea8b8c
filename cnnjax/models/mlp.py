"""The dense baseline of MNIST-1D (Greydanus 2020)."""

from cnnjax.layers.activations import identity
from cnnjax.layers.dense import Dense
from cnnjax.layers.parts import Parts
from cnnjax.layers.residual import ResidualBlock
from cnnjax.layers.sequence import Sequential
from cnnjax.models.network import Network, Stage


def mlp(num_classes: int, *, width: int = 100, act: str = "relu", init: str = "he") -> Network:
    """Two dense layers of `width` features, the second with a skip around it, and a linear `head`.

    The input is flattened, whatever its dimensions. On 40 x 1 with ten classes it has 15,210 parameters.

    Raises:
      RequestError: for a detector or an initialiser that is not there.
    """
    parts = Parts(act=act, init=init)
    return Network(
        (
            Stage("stage1", parts.dense(width)),
            Stage("stage2", ResidualBlock(parts.dense(width), shortcut=Sequential(()), act=identity)),
            Stage("head", Dense(num_classes)),
        )
    )
