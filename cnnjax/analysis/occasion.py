"""What a measure is given by a study, and what it gives back."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.config import MeasureConfig


@dataclasses.dataclass(frozen=True)
class Occasion:
    """What a measure is given.

    Attributes:
      subject: the run.
      images, labels: of the split that is looked at, [N, *spatial, C] and [N].
      training: images and labels of the training split that probes are fitted on.
      training_part: the first of that split, as many as `images` at most.
      arm: the run's.
      arms: the other arms' runs of the same seed and data, by arm.
      others: runs that it is compared with, by what they are: `next seed`, of its arm, and the baseline.
      settings: of the config.
      key: of the run's seed.
      start: makes the run as it was before its first step; None where that cannot be made any more.
      label_smoothing: of the loss that it was trained by.
    """

    subject: Subject
    images: np.ndarray
    labels: np.ndarray
    training: tuple[np.ndarray, np.ndarray]
    training_part: tuple[np.ndarray, np.ndarray]
    arm: str
    arms: Mapping[str, Subject]
    others: Mapping[str, Subject]
    settings: MeasureConfig
    key: jax.Array
    start: Callable[[], Subject | None]
    label_smoothing: float = 0.0

    @property
    def spatial_stages(self) -> tuple[str, ...]:
        """The stages of the network whose output has positions."""
        stages = jax.eval_shape(stage_outputs, self.subject, jax.ShapeDtypeStruct(self.images[:1].shape, np.float32))
        return tuple(name for name in self.subject.model.stage_names if stages[name].ndim == self.images.ndim)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a measure gives back: numbers for the table, and arrays for pictures."""

    findings: list[Finding]
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
