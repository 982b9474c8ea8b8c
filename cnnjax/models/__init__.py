"""Networks as named sequences of stages; their registry and description."""

from cnnjax.models.description import describe
from cnnjax.models.registry import NETWORKS, build

__all__ = ["NETWORKS", "build", "describe"]
