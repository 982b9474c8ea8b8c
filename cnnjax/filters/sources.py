"""All sources of filters by name, and a network's starting values under a plan.

A source is one of four kinds: `init`, the network's own initialiser; drawn from a key (`DRAWN`); fitted to what the
layer sees of the training split (`FITS` and `CENTROID_FITS`, see `cnnjax.filters.greedy`); or saved (`SAVED`), the
variables of a finished run or a file.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping

import jax

from cnnjax.config import FilterRule, RequestError, choose, nearest
from cnnjax.filters import fixed, random
from cnnjax.filters.combination import bank_place, draw_mixing, mixing_path
from cnnjax.filters.places import Place
from cnnjax.filters.plan import Flat
from cnnjax.filters.unsupervised import FITS
from cnnjax.layers.initialisers import INITIALISERS
from cnnjax.ops.keys import fold_in_name, options_for_drawing

Draw = Callable[[jax.Array, tuple[int, ...]], jax.Array]

DRAWN: dict[str, Draw] = {
    "gaussian": random.gaussian,
    "uniform": random.uniform,
    "signs": random.signs,
    "orthogonal": random.orthogonal,
    "smoothed": random.smoothed,
    **{name: INITIALISERS[name] for name in ("glorot", "he", "lecun", "torch")},
    "classic": fixed.classic,
    "gabor": fixed.gabor,
    "dct": fixed.dct,
    "gaussian_derivatives": fixed.gaussian_derivatives,
    "dirac": fixed.dirac,
}
"""From a key and the shape [*window, channels, features] of a bank of filters to its values."""

SAVED = ("checkpoint", "arm", "safetensors")
"""Written `KIND:WHERE`."""


def is_saved(source: str) -> bool:
    """Whether a source is the variables of a run or a file.

    Raises:
      RequestError: if it says nothing of where they are, or is no source at all.
    """
    kind, colon, where = source.partition(":")
    if colon or kind in SAVED:
        choose(dict.fromkeys(SAVED), kind, "source of filters")
        if not where:
            raise RequestError(f"source of filters {source!r}: needs a name, as in {kind}:NAME")
        return True
    known = ["init", *DRAWN, *FITS]
    if source not in known:
        raise RequestError(f"unknown source of filters {source!r}; {nearest(source, [*known, *SAVED])}")
    return False


def draw_values(params: Flat, rules: Mapping[str, FilterRule], places: Mapping[str, Place], key: jax.Array) -> Flat:
    """The parameters with each kernel that has a drawn source from it, and the matrices of combinations.

    Args:
      params: from the network's own initialisers, by path.
      rules: of each path; see `cnnjax.filters.plan.cover`.
      places: the kernels, by path.
      key: each path draws from it folded with its name.

    Raises:
      RequestError: for a source that cannot fill the kernel, or combinations of what cannot be combined.
    """
    values = dict(params)
    for path, place in places.items():
        rule = rules[path]
        bank = bank_place(place, rule)
        if rule.combinations:
            _check_combines(path, place, rule)
            values[mixing_path(path)] = draw_mixing(fold_in_name(key, mixing_path(path)), bank, place.features)
        if rule.source in DRAWN or rule.combinations:
            # A bank that is still to be fitted is drawn too, so that the network can run until it is.
            values[path] = draw(DRAWN.get(rule.source, random.gaussian), fold_in_name(key, path), bank)
    return values


def check_draws(rules: Mapping[str, FilterRule], places: Mapping[str, Place]) -> None:
    """Raises `RequestError` as `draw_values` would.

    Whether a source fills a kernel depends on its window: each is tried once, with one channel and one feature.
    """
    tried: set[tuple[str, tuple[int, ...]]] = set()
    for path, place in places.items():
        rule = rules[path]
        if rule.combinations:
            _check_combines(path, place, rule)
        if rule.source in DRAWN and (rule.source, place.window) not in tried:
            small = dataclasses.replace(place, positions=(), channels=1, features=1)
            with _naming(small):
                jax.eval_shape(
                    functools.partial(_draw, DRAWN[rule.source], positions=(), shape=small.shape), jax.random.key(0)
                )
            tried.add((rule.source, place.window))


def draw(source: Draw, key: jax.Array, place: Place) -> jax.Array:
    """A kernel from a drawn source; where filters are not shared, drawn for each position.

    Raises:
      RequestError: if the source cannot fill it.
    """
    with _naming(place):
        return _compiled_draw()(source, key, place.positions, place.shape)


@contextlib.contextmanager
def _naming(place: Place) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise RequestError(f"{place.path}: {error}") from None


@functools.cache
def _compiled_draw() -> Callable[..., jax.Array]:
    return jax.jit(_draw, static_argnums=(0, 2, 3), compiler_options=options_for_drawing())


def _draw(source: Draw, key: jax.Array, positions: tuple[int, ...], shape: tuple[int, ...]) -> jax.Array:
    if not positions:
        return source(key, shape)
    keys = jax.random.split(key, math.prod(positions))
    return jax.vmap(lambda one: source(one, shape))(keys).reshape(*positions, *shape)


def _check_combines(path: str, place: Place, rule: FilterRule) -> None:
    if place.groups > 1 or path.endswith("centroids"):
        raise RequestError(f"{path}: combinations need a convolution without groups, or a dense layer")
    if rule.source == "init" or is_saved(rule.source):
        raise RequestError(f"{path}: combinations need filters that are drawn or fitted, such as he; not {rule.source}")
