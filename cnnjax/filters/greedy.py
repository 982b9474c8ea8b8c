"""Unsupervised filters, learned layer by layer: each on what the layers below it make of the training split."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.config import FilterRule, FitConfig, RequestError
from cnnjax.data.feed import standardise
from cnnjax.filters.combination import bank_place, combine
from cnnjax.filters.patches import sample_patches
from cnnjax.filters.places import Place, layer_input
from cnnjax.filters.plan import Flat, unflatten
from cnnjax.filters.unsupervised import CENTROID_FITS, FITS, FilterBank
from cnnjax.models.network import Network
from cnnjax.ops.coding import normalise_contrast
from cnnjax.ops.keys import fold_in_name

_IMAGES_AT_ONCE = 256

Between = Callable[[str, float], None]
"""Called with what is being fitted and the share of it done, in [0, 1]; it may raise to stop."""

Look = Callable[[Mapping[str, Any], jax.Array, jax.Array, int], jax.Array]
"""From variables, images, a key and a number to so many patches [count, groups, fan_in] of what a layer sees."""


@dataclasses.dataclass(frozen=True)
class Fitting:
    """A layer to be fitted.

    Attributes:
      place: the bank of filters.
      source: a key of `FITS`.
      bias: the path of the layer's bias, where it has one that comes from the same source and the filters are not
        combined; else None.
    """

    place: Place
    source: str
    bias: str | None


def plan_fittings(rules: Mapping[str, FilterRule], places: Mapping[str, Place]) -> list[Fitting]:
    """The layers whose source is fitted, in the order in which they run.

    Raises:
      RequestError: for a layer that no filters can be fitted to.
    """
    fittings = []
    for path, place in places.items():
        rule = rules[path]
        if rule.source not in FITS:
            continue
        if _has_centroids(place) and rule.source not in CENTROID_FITS:
            raise RequestError(f"{path}: centroids come from {' or '.join(CENTROID_FITS)}, not {rule.source}")
        if place.positions or not place.input_shape:
            raise RequestError(f"{path}: {rule.source} can be fitted to convolutions and dense layers alone")
        if any(size > there for size, there in zip(place.window, place.input_shape, strict=False)):
            raise RequestError(f"{path}: no window of {place.window} lies within its input of {place.input_shape[:-1]}")
        bias = f"{place.layer}/bias"
        # The bias of a bank would have to be combined as the bank is.
        fits_bias = bias in rules and rules[bias].source == rule.source and not rule.combinations
        fittings.append(Fitting(bank_place(place, rule), rule.source, bias if fits_bias else None))
    return fittings


def check_fittings(fittings: Sequence[Fitting], patches: int) -> None:
    """Raises `RequestError` where no so many patches can support the number of filters.

    Args:
      fittings: see `plan_fittings`.
      patches: that are drawn, `config.fit.patches`.
    """
    for place, source in ((fitting.place, fitting.source) for fitting in fittings):
        filters, values = place.features // place.groups, place.fan_in
        problem = None
        if source == "pca" and filters >= values:
            problem = f"patches of {values} values have {values - 1} principal components"
        elif source == "zca" and filters != values:
            problem = f"whitening gives as many filters as a patch has values, {values}"
        elif (source in ("patches", "kmeans") and filters > patches) or (
            source in ("pca", "zca") and filters >= patches
        ):
            problem = f"config.fit.patches is {patches}"
        if problem:
            raise RequestError(f"{place.path}: {source} cannot give {filters} filters: {problem}")


def fit_greedily(
    fittings: Sequence[Fitting],
    looks: Mapping[str, Look],
    params: Flat,
    stats: Flat,
    images: np.ndarray,
    settings: FitConfig,
    key: jax.Array,
    between: Between,
) -> Flat:
    """The parameters with the fitted filters in their places.

    Args:
      fittings: in the order of execution.
      looks: by layer, how to see what it sees; see `look_function`.
      params, stats: starting values of everything else, by path.
      images: the training split, [N, *spatial, C].
      settings: `config.fit`.
      key: each layer draws from it folded with its path.
      between: told of the progress.

    Raises:
      RequestError: where the patches cannot support so many filters.
    """
    params = dict(params)
    for fitting in fittings:
        place = fitting.place
        own = fold_in_name(key, place.path)
        look_key, fit_key = jax.random.split(own)
        patches = gather_patches(place, looks[place.layer], params, stats, images, settings.patches, look_key, between)
        try:
            kernels, biases = _fit_groups(fitting, patches, settings, fit_key, between)
        except ValueError as error:
            raise RequestError(f"{place.path}: {error}") from None
        params[place.path] = kernels.reshape(place.shape)
        if fitting.bias is not None:
            params[fitting.bias] = biases.reshape(params[fitting.bias].shape)
    return params


def gather_patches(
    place: Place,
    look: Look,
    params: Flat,
    stats: Flat,
    images: np.ndarray,
    count: int,
    key: jax.Array,
    between: Between,
) -> jax.Array:
    """`count` patches [count, groups, fan_in] of what a layer sees, equally many of as many images as that takes."""
    chosen = np.asarray(jax.random.permutation(key, len(images)))[:count]
    size = min(_IMAGES_AT_ONCE, len(chosen))
    batches = len(chosen) // size
    each = -(-count // batches)
    variables = {"params": unflatten(combine(params)), "batch_stats": unflatten(stats)}
    parts = []
    for number in range(batches):
        between(f"looking at {place.layer}", number / batches)
        batch = jnp.asarray(images[chosen[number * size : (number + 1) * size]])
        parts.append(look(variables, batch, jax.random.fold_in(key, number), each))
    return jnp.concatenate(parts)[:count]


def _fit_groups(
    fitting: Fitting, patches: jax.Array, settings: FitConfig, key: jax.Array, between: Between
) -> tuple[jax.Array, jax.Array]:
    """The filters [fan_in, features] and biases [features] of all groups, side by side."""
    place = fitting.place
    features = place.features // place.groups

    def tell(group: int, share: float) -> None:
        between(f"fitting {place.layer}", (group + share) / place.groups)

    banks = []
    for group in range(place.groups):
        given = (jax.random.fold_in(key, group), patches[:, group], features, settings, partial(tell, group))
        if _has_centroids(place):
            banks.append(FilterBank(CENTROID_FITS[fitting.source](*given), jnp.zeros(features)))
        else:
            banks.append(FITS[fitting.source](*given))
    return jnp.concatenate([bank.kernel for bank in banks], -1), jnp.concatenate([bank.bias for bank in banks], -1)


def _has_centroids(place: Place) -> bool:
    return place.path.endswith("/centroids")


def look_function(model: Network, place: Place, mean: tuple[float, ...], std: tuple[float, ...]) -> Look:
    """How to see what a layer of a network sees of images [N, *spatial, C] with these means and deviations; compiled.

    A layer that brings patches to one contrast itself is taken to see them so.
    """

    def look(variables: Mapping[str, Any], images: jax.Array, key: jax.Array, count: int) -> jax.Array:
        x = layer_input(model, variables, standardise(images, mean, std), place.layer)
        # A dense layer sees all of an example at once: one position, and a window of 1.
        x = x if place.window else x.reshape(-1, 1, place.channels)
        patches = sample_patches(key, x, place.window or (1,), count)
        if place.contrast is not None:
            patches = normalise_contrast(patches, epsilon=place.contrast)
        by_channel = patches.reshape(count, -1, place.groups, place.channels)
        return by_channel.swapaxes(1, 2).reshape(count, place.groups, -1)

    return jax.jit(look, static_argnums=3)
