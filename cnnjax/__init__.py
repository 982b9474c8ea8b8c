"""cnnjax: a laboratory for convolutional networks in JAX and Flax."""

from cnnjax.models import build, describe
from cnnjax.study.loading import load, load_study

__all__ = ["build", "describe", "load", "load_study"]
