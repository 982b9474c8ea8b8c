"""Multinomial logistic regression: the floor that every network must beat."""

from cnnjax.config import choose
from cnnjax.layers.dense import Dense
from cnnjax.layers.initialisers import INITIALISERS, starting_fields
from cnnjax.models.network import Network, Stage


def logistic(num_classes: int, *, init: str = "lecun") -> Network:
    """A linear `head` on the raw input and nothing else.

    Args:
      num_classes: its logits.
      init: a key of `cnnjax.layers.initialisers.INITIALISERS`.

    Raises:
      RequestError: for another name.
    """
    choose(INITIALISERS, init, "init")
    return Network((Stage("head", Dense(num_classes, **starting_fields(init))),))
