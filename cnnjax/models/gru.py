"""The recurrent baseline of MNIST-1D (Greydanus 2020)."""

from cnnjax.config import choose
from cnnjax.layers.initialisers import INITIALISERS
from cnnjax.layers.parts import Parts
from cnnjax.layers.recurrent import BidirectionalGRU
from cnnjax.models.network import Network, Stage


def gru(num_classes: int, *, width: int = 6, init: str = "torch") -> Network:
    """A gated recurrent unit of `width` features from each end (`stage1`), and a linear `head` on all positions.

    For sequences [N, W, C] alone. On 40 x 1 with ten classes it has 5,134 parameters.

    Raises:
      RequestError: for an initialiser that is not there.
    """
    kernel_init = choose({**INITIALISERS, "torch": None}, init, "init")
    head = Parts(init=init).linear_head(num_classes)
    return Network((Stage("stage1", BidirectionalGRU(width, kernel_init)), Stage("head", head)))
