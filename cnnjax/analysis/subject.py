"""What is measured: a network with its variables, and the images that it is shown."""

import dataclasses
import functools
from typing import Any

import jax

from cnnjax.data.feed import standardise
from cnnjax.models.network import Network, run_stages

INPUT = "input"
"""The name under which the standardised images stand among the stages' outputs."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["variables"],
    meta_fields=["model", "mean", "std", "low", "high"],
)
@dataclasses.dataclass(frozen=True)
class Subject:
    """A network as an analysis sees it. It may be an argument of a compiled function, which then serves every subject
    of the same network and data.

    Attributes:
      model: the network.
      variables: `params` and `batch_stats`, nested.
      mean, std: by which each channel of an image is standardised, in the images' own units.
      low, high: the least and the greatest legal value of a pixel, in the same units.
    """

    model: Network
    variables: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: float = 0.0
    high: float = 255.0

    @property
    def stages(self) -> tuple[str, ...]:
        """`input`, and the stages' names in order."""
        return (INPUT, *self.model.stage_names)


def stage_outputs(subject: Subject, images: jax.Array) -> dict[str, jax.Array]:
    """The output of every stage, by name in order, each computed once, with products at the highest precision.

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units, of any dtype.

    Returns:
      float32 arrays [N, ...]: the standardised images under `input`, and the logits [N, classes] last.
    """
    outputs = {INPUT: standardise(images, subject.mean, subject.std)}
    with jax.default_matmul_precision("highest"):
        after: str | None = None
        for name in subject.model.stage_names:
            below = outputs[after or INPUT]
            outputs[name] = run_stages(subject.model, subject.variables, below, after=after, until=name)
            after = name
    return outputs


def logits_of(subject: Subject, images: jax.Array) -> jax.Array:
    """The logits [N, classes], float32, of images as in `stage_outputs`."""
    with jax.default_matmul_precision("highest"):
        inputs = standardise(images, subject.mean, subject.std)
        return run_stages(subject.model, subject.variables, inputs)


def check_stages(subject: Subject, stages: tuple[str, ...]) -> None:
    """Raises ValueError, naming those there are, if one of the stages is neither `input` nor of the network."""
    for stage in stages:
        if stage not in subject.stages:
            raise ValueError(f"no stage {stage!r}; there are: {', '.join(subject.stages)}")
