"""A network is a named sequence of stages, and can be run from any stage to any stage."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import jax
from flax import linen as nn


@dataclasses.dataclass(frozen=True)
class Stage:
    """A named part of a network. Its module is called with `train` by keyword, and its parameters' paths start with
    the name."""

    name: str
    module: nn.Module


class Network(nn.Module):
    """Stages applied one after another; the last is the head and returns logits."""

    stages: tuple[Stage, ...]

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, after: str | None = None, until: str | None = None
    ) -> jax.Array:
        """Runs the stages from behind `after` to the end of `until`.

        Args:
          x: the network's input [N, *spatial, C], or the output of stage `after`.
          train: whether dropout drops and batch norm uses the batch's statistics.
          after: the stage whose output x is; None for the input.
          until: the stage whose output is wanted; None for the logits [N, classes].

        Raises:
          ValueError: for a stage that the network does not have.
        """
        names = self.stage_names
        for name in (after, until):
            if name is not None and name not in names:
                raise ValueError(f"no stage {name!r}; there are: {', '.join(names)}")
        first = 0 if after is None else names.index(after) + 1
        last = len(names) if until is None else names.index(until) + 1
        for stage in self.stages[first:last]:
            x = stage.module.clone(parent=self, name=stage.name)(x, train=train)
        return x

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stages' names in order."""
        return tuple(stage.name for stage in self.stages)


def run_stages(
    model: Network, variables: Mapping[str, Any], x: jax.Array, *, after: str | None = None, until: str | None = None
) -> jax.Array:
    """A network's stages as in evaluation; see `Network.__call__`."""
    return cast(jax.Array, model.apply(variables, x, after=after, until=until))
