"""Means, intervals and paired differences over seeds, from SciPy."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its 95% interval (Student's t); the interval is NaN for fewer than two seeds, unless it is
    one over images."""

    mean: float
    low: float
    high: float
    seeds: int


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value for each seed, with its interval."""
    mean = float(np.mean(values)) if len(values) else math.nan
    if len(values) < 2:
        return Estimate(mean, math.nan, math.nan, len(values))
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(special.stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * spread
    return Estimate(mean, mean - reach, mean + reach, len(values))


def estimate_measure(rows: "pd.DataFrame") -> Estimate:
    """The mean over seeds of what a measure found, with its interval; of one seed, with that over images.

    Args:
      rows: one for each seed, with `value`, `low` and `high`; the last two may be missing.
    """
    found = estimate(rows.value.tolist())
    if found.seeds != 1:
        return found
    low, high = rows[["low", "high"]].astype(float).iloc[0]
    return Estimate(found.mean, low, high, 1)


def paired_difference(values: dict[int, float], baseline: dict[int, float]) -> Estimate:
    """The mean over the seeds that both have of value - baseline, with the paired interval.

    Args:
      values, baseline: one value by seed; a seed that one of them lacks (a failed run) is left out.
    """
    return estimate([values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys())])
