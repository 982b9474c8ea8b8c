"""The points that a search tries, where they can be said before anything is run."""

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from cnnjax.study.sweep.spec import Choices, Dimension, Value

Point = dict[str, Value]
"""A value for each field."""

# Where there are few points, the same ones are drawn again and again: so many draws for each trial, or blocks, and no
# more.
_MOST_DRAWS = 100
_MOST_BLOCKS = 6


def grid(dimensions: Sequence[Dimension]) -> list[Point]:
    """Every value with every other, the last field the fastest.

    Raises:
      ValueError: for a range of which no number of values is given, unless it is of whole numbers; it names the field.
    """
    lists = [_listed(dimension) for dimension in dimensions]
    return [_point(dimensions, values) for values in itertools.product(*lists)]


def _listed(dimension: Dimension) -> Sequence[Value]:
    values = dimension.values
    if isinstance(values, Choices):
        return values.values
    if values.whole and values.scale == "linear":
        return range(int(values.low), int(values.high) + 1)
    raise ValueError(f"{dimension.field} is a range: say how many of its values, as in log:1e-3:1:4")


def random(dimensions: Sequence[Dimension], trials: int, seed: int) -> list[Point]:
    """So many different points, each drawn uniformly on the fields' scales (Bergstra and Bengio 2012).

    Fewer where there are not so many. More trials begin with the same ones.
    """
    generator = np.random.default_rng(seed)
    draws = (generator.random(len(dimensions)) for _ in range(_MOST_DRAWS * trials))
    return _different(dimensions, draws, trials)


def sobol(dimensions: Sequence[Dimension], trials: int, seed: int) -> list[Point]:
    """So many different points of a scrambled Sobol sequence (Owen 1998), which fills the box more evenly than chance.

    Fewer where there are not so many. More trials begin with the same ones; a power of two is balanced.
    """
    from scipy.stats import qmc  # it takes most of a second to load

    sequence = qmc.Sobol(len(dimensions), scramble=True, seed=seed)
    first = math.ceil(math.log2(trials))
    # Blocks of a power of two, each as long as all before it: the sequence is balanced at the end of every one.
    blocks = (sequence.random_base2(size) for size in itertools.chain([first], range(first, first + _MOST_BLOCKS)))
    return _different(dimensions, itertools.chain.from_iterable(blocks), trials)


def _different(dimensions: Sequence[Dimension], shares: Iterable[np.ndarray], trials: int) -> list[Point]:
    points: dict[tuple[Value, ...], Point] = {}
    for place in shares:
        values = tuple(d.values.at(float(share)) for d, share in zip(dimensions, place, strict=True))
        points.setdefault(values, _point(dimensions, values))
        if len(points) == trials:
            break
    return list(points.values())


def _point(dimensions: Sequence[Dimension], values: Sequence[Value]) -> Point:
    return {dimension.field: value for dimension, value in zip(dimensions, values, strict=True)}
