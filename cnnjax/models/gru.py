"""The recurrent baseline of MNIST-1D (Greydanus 2020)."""

from cnnjax.config import choose
from cnnjax.layers.dense import Dense
from cnnjax.layers.initialisers import INITIALISERS
from cnnjax.layers.recurrent import BidirectionalGRU
from cnnjax.models.network import Network, Stage


def gru(num_classes: int, *, width: int = 6, init: str = "torch") -> Network:
    """A gated recurrent unit of `width` features from each end (`stage1`), and a linear `head` on all positions.

    For sequences [N, W, C] alone. On 40 x 1 with ten classes it has 5,134 parameters.

    Raises:
      RequestError: for an initialiser that is not there.
    """
    stage1 = Stage("stage1", BidirectionalGRU(width, choose(INITIALISERS, init, "init")))
    return Network((stage1, Stage("head", Dense(num_classes))))
