"""The other runs of a study that some measures compare a run with."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from cnnjax.analysis.measures import COMPARED
from cnnjax.config import DataConfig
from cnnjax.study.workdir import Study, Unit, read_status

# What two runs' data must have in common for one's images to be shown to the other: their summary, and what was asked
# for, but for how many examples there are, what becomes of them in training, and where they are kept.
_ALIKE = ("shape", "num_classes", "low", "high")
_MAY_DIFFER = ("examples", "augment", "max_shift", "strength", "streamed", "memory", "workers")

Finished = Mapping[Unit, list[Any]]
"""The finished runs, and what of their data has to be alike."""


@dataclasses.dataclass(frozen=True)
class Relatives:
    """Finished runs of the same images and classes as a run's.

    Attributes:
      arms: those of the other arms with the same seed, by arm.
      others: `next seed`, of the same arm, and the baseline with the same seed, by its arm.
    """

    arms: Mapping[str, Unit]
    others: Mapping[str, Unit]

    def compared(self, measure: str) -> list[str]:
        """With which of them a measure compares the run, in order of the alphabet."""
        return sorted(getattr(self, COMPARED[measure])) if measure in COMPARED else []


def finished_runs(study: Study) -> Finished:
    """Those whose data are known; of another it is said when it is loaded."""
    finished = {}
    asked = {arm: _images(config.data) for arm, config in study.experiment.arms.items()}
    for unit in study.units:
        if read_status(unit).get("state") == "finished":
            try:
                data = json.loads((unit.folder / "config.json").read_text())["dataset"]
                finished[unit] = [*(data[field] for field in _ALIKE), asked[unit.arm]]
            except (OSError, ValueError, LookupError, TypeError):
                continue
    return finished


def _images(data: DataConfig) -> dict[str, Any]:
    return {field: value for field, value in dataclasses.asdict(data).items() if field not in _MAY_DIFFER}


def relatives(unit: Unit, study: Study, finished: Finished) -> Relatives:
    """Of a run, among the finished ones."""
    alike = [other for other, data in finished.items() if other != unit and data == finished.get(unit)]
    arms = {other.arm: other for other in alike if other.seed == unit.seed}
    others = {arm: other for arm, other in arms.items() if arm == study.experiment.baseline}
    after = [other for other in alike if (other.arm, other.seed) == (unit.arm, unit.seed + 1)]
    return Relatives(arms, others | dict(zip(("next seed",), after, strict=False)))
