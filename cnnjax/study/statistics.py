"""Means, intervals and paired differences over seeds, from SciPy."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import special

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its 95% interval (Student's t); the interval is NaN for fewer than two seeds."""

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


def paired_difference(values: dict[int, float], baseline: dict[int, float]) -> Estimate:
    """The mean over the seeds that both have of value - baseline, with the paired interval.

    Args:
      values, baseline: one value by seed; a seed that one of them lacks (a failed run) is left out.
    """
    return estimate([values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys())])
