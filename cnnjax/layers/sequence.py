"""Layers one after another, by name."""

import dataclasses

import jax
from flax import linen as nn


@dataclasses.dataclass(frozen=True)
class Named:
    """A layer inside another one, whose parameters are below its name. The module is called with `train` by keyword."""

    name: str
    module: nn.Module

    def inside(self, parent: nn.Module) -> nn.Module:
        """The module as a part of `parent`, to be called there."""
        return self.module.clone(parent=parent, name=self.name)


class Sequential(nn.Module):
    """Each layer is applied to what the one before returns; none at all is the identity."""

    layers: tuple[Named, ...]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """The first layer's input to the last one's output."""
        for layer in self.layers:
            x = layer.inside(self)(x, train=train)
        return x
