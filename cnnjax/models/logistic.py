"""Multinomial logistic regression: the floor that every network must beat."""

from cnnjax.layers.dense import Dense
from cnnjax.models.network import Network, Stage


def logistic(num_classes: int) -> Network:
    """A linear `head` on the raw input and nothing else."""
    return Network((Stage("head", Dense(num_classes)),))
