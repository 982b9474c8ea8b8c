"""cnnjax: a laboratory for convolutional networks in JAX and Flax."""

from cnnjax.models import build, describe

__all__ = ["build", "describe"]
