"""Networks as named sequences of stages; their registry, description and published weights."""

from cnnjax.models.description import describe
from cnnjax.models.registry import NETWORKS, build
from cnnjax.models.torch_weights import load_torch

__all__ = ["NETWORKS", "build", "describe", "load_torch"]
