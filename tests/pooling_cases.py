"""Drawn inputs and windows for the tests of pooling, and the loops over windows that results are held against."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from hypothesis import strategies as st


class Case(NamedTuple):
    """An input of small whole numbers, so with many ties, and how the window slides."""

    x: np.ndarray
    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    @property
    def axes(self) -> tuple[int, ...]:
        """The spatial axes."""
        return tuple(range(1, self.x.ndim - 1))


class Seen(NamedTuple):
    """One position of the window: its index, what of the input it sees, and which part of the window that is."""

    at: tuple[slice | int, ...]
    inside: tuple[slice, ...]
    part: tuple[slice, ...]


@st.composite
def cases(draw: st.DrawFn, low: int = -4, high: int = 0) -> Case:
    """Numbers from `low` to below `high`; those of max pooling are below 0, so that a border of zeros would win."""
    dimensions = draw(st.integers(1, 3))

    def each(most: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(1, most), min_size=dimensions, max_size=dimensions)))

    window, more = each(3 if dimensions < 3 else 2), each(3)
    strides = draw(st.sampled_from([window, each(3)]))
    padding = tuple((draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))) for k in window)
    spatial = [k + extra for k, extra in zip(window, more, strict=True)]
    shape = (draw(st.integers(1, 2)), *spatial, draw(st.integers(1, 2)))
    values = np.random.default_rng(draw(st.integers(0, 999))).integers(low, high, shape)
    return Case(values.astype(np.float32), window, strides, padding)


def positions(case: Case) -> Iterator[Seen]:
    """Each position of the window, in order."""
    starts = [
        range(-before, size + after - k + 1, s)
        for size, k, s, (before, after) in zip(case.x.shape[1:-1], case.window, case.strides, case.padding, strict=True)
    ]
    for position in itertools.product(*(range(len(axis)) for axis in starts)):
        corner = [axis[i] for axis, i in zip(starts, position, strict=True)]
        inside = [slice(max(c, 0), c + k) for c, k in zip(corner, case.window, strict=True)]
        part = [
            slice(max(-c, 0), min(k, size - c))
            for c, k, size in zip(corner, case.window, case.x.shape[1:-1], strict=True)
        ]
        yield Seen((slice(None), *position), (slice(None), *inside), tuple(part))


def output_shape(case: Case) -> tuple[int, ...]:
    """That of the pooled array."""
    last = list(positions(case))[-1].at[1:]
    return (len(case.x), *(int(index) + 1 for index in last), case.x.shape[-1])  # type: ignore[arg-type]


def pulled_back(
    case: Case, pools: list[Callable[..., jax.Array]], cotangent: np.ndarray
) -> list[tuple[jax.Array, jax.Array]]:
    """Each pool's value and the gradient of its product with the cotangent, in one compiled program."""

    @jax.jit
    def run(x: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        results = []
        for pool in pools:
            value, back = jax.vjp(lambda x, pool=pool: pool(x, strides=case.strides, padding=case.padding), x)
            results.append((value, back(cotangent)[0]))
        return results

    return run(case.x)


def drawn_cotangent(case: Case) -> np.ndarray:
    """Normal numbers in the shape of the pooled array."""
    return np.random.default_rng(0).normal(size=output_shape(case)).astype(np.float32)
