"""Sources by name: which there are, what is drawn anew and what stays, and from which key."""

import jax
import numpy as np
import pytest

from cnnjax.config import FilterRule, RequestError
from cnnjax.filters import fixed, random
from cnnjax.filters.combination import add_mixing
from cnnjax.filters.places import Place
from cnnjax.filters.plan import cover
from cnnjax.filters.sources import DRAWN, draw, draw_values, is_saved
from cnnjax.filters.unsupervised import FITS
from cnnjax.layers.initialisers import INITIALISERS

KERNELS = {"stage1/conv/kernel": (3, 3, 1, 4), "stage2/conv/kernel": (3, 3, 1, 4), "head/kernel": (16, 3)}
VECTORS = {"stage1/conv/bias": (4,), "stage1/norm/scale": (4,), "stage2/conv/bias": (4,), "head/bias": (3,)}
PARAMS = {path: np.full(shape, 7.0, np.float32) for path, shape in {**KERNELS, **VECTORS}.items()}
PLACES = {
    path: Place(path, (*shape[:-2], shape[-2]), (), shape[:-2], shape[-2], shape[-1]) for path, shape in KERNELS.items()
}


def started(source: str, seed: int = 0, combinations: int = 0) -> dict[str, np.ndarray]:
    rules = cover(PARAMS, [FilterRule("stage.*", source, "frozen", combinations), FilterRule("head/.*")])
    values = draw_values(PARAMS, add_mixing(rules, PLACES), PLACES, jax.random.key(seed))
    return {path: np.asarray(value) for path, value in values.items()}


def changed(values: dict[str, np.ndarray]) -> set[str]:
    return {path for path, value in values.items() if (value != PARAMS[path]).any()}


def test_only_kernels_with_another_source_change() -> None:
    values = started("signs")
    assert changed(values) == {"stage1/conv/kernel", "stage2/conv/kernel"}
    assert {path: value.shape for path, value in values.items()} == {**KERNELS, **VECTORS}


def test_sources_by_name() -> None:
    for name in ("gaussian", "uniform", "orthogonal", "signs", "smoothed"):
        assert DRAWN[name] is getattr(random, name)
    for name in ("classic", "gabor", "dct", "gaussian_derivatives", "dirac"):
        assert DRAWN[name] is getattr(fixed, name)
    for name in ("glorot", "he", "lecun"):
        assert DRAWN[name] is INITIALISERS[name]
    assert {"patches", "kmeans", "pca", "zca", "autoencoder"} == FITS.keys()


@pytest.mark.parametrize("source", ["init", "kmeans", "checkpoint:somewhere"])
def test_what_is_not_drawn_keeps_the_networks_own_values(source: str) -> None:
    assert changed(started(source)) == set()


def test_each_path_draws_for_itself_and_from_the_key() -> None:
    first, again, other = started("signs"), started("signs"), started("signs", seed=1)
    one, two = first["stage1/conv/kernel"], first["stage2/conv/kernel"]
    assert (one != two).any()
    assert (one != other["stage1/conv/kernel"]).any()
    np.testing.assert_array_equal(one, again["stage1/conv/kernel"])


def test_a_kernel_does_not_depend_on_what_else_is_drawn() -> None:
    path = "stage2/conv/kernel"
    alone, rules, places = {path: PARAMS[path]}, {path: FilterRule(".*", "signs")}, {path: PLACES[path]}
    found = draw_values(alone, rules, places, jax.random.key(0))[path]
    np.testing.assert_array_equal(found, started("signs")[path])


def test_layer_without_shared_filters_draws_for_each_position() -> None:
    place = Place("stage1/kernel", (6, 4, 2), (2, 1), (3, 2), 2, 3)
    kernel = np.asarray(draw(random.gaussian, jax.random.key(0), place))
    assert kernel.shape == (2, 1, 3, 2, 2, 3)
    assert (kernel[0] != kernel[1]).all()
    orthogonal = np.asarray(draw(random.orthogonal, jax.random.key(0), place)).reshape(2, 12, 3)
    for filters in orthogonal:  # mean squares of 2 / 12
        np.testing.assert_allclose(filters.T @ filters, 2 * np.eye(3), atol=1e-5)


@pytest.mark.parametrize("source", ["signs", "kmeans"])
def test_bank_and_matrix_of_combinations(source: str) -> None:
    values, again, other = started(source, 0, 5), started(source, 0, 5), started(source, 1, 5)
    assert values["stage1/conv/kernel"].shape == (3, 3, 1, 20)
    assert values["stage1/conv/mixing"].shape == (20, 4)
    for path in ("stage1/conv/kernel", "stage1/conv/mixing"):
        np.testing.assert_array_equal(values[path], again[path])
        assert (values[path] != other[path]).any()
    assert (values["stage1/conv/mixing"] != values["stage2/conv/mixing"]).any()
    assert values["head/kernel"].shape == (16, 3)


@pytest.mark.parametrize("source", ["checkpoint:runs/a", "arm:learned", "safetensors:a.safetensors", "arm:a:b"])
def test_saved_sources(source: str) -> None:
    assert is_saved(source)


@pytest.mark.parametrize("source", ["init", *DRAWN, *FITS])
def test_sources_that_are_not_saved(source: str) -> None:
    assert not is_saved(source)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("gausian", "unknown source of filters 'gausian'; did you mean 'gaussian'?"),
        ("checkpoint", "source of filters 'checkpoint': needs a name, as in checkpoint:NAME"),
        ("checkpoint:", "source of filters 'checkpoint:': needs a name, as in checkpoint:NAME"),
        ("chekpoint:runs/a", "unknown source of filters 'chekpoint'; did you mean 'checkpoint'?"),
        ("", "unknown source of filters ''; there are: "),
    ],
)
def test_unknown_source_names_the_nearest(source: str, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        is_saved(source)
    assert str(caught.value).startswith(says)


def refused(rule: FilterRule, place: Place) -> str:
    with pytest.raises(RequestError) as caught:
        draw_values({}, {place.path: rule}, {place.path: place}, jax.random.key(0))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_source_that_cannot_fill_a_kernel_names_it() -> None:
    message = refused(FilterRule(".*", "gabor"), Place("a/kernel", (4, 4, 1), (), (2, 2), 1, 4))
    assert message.startswith("a/kernel: a Gabor bank needs a window of at least 3")


@pytest.mark.parametrize(
    ("source", "place", "says"),
    [
        ("he", Place("a/kernel", (4, 4), (), (3,), 2, 4, groups=2), "need a convolution without groups"),
        ("he", Place("a/centroids", (4, 4), (), (), 4, 4), "need a convolution without groups"),
        ("init", PLACES["head/kernel"], "need filters that are drawn or fitted, such as he; not init"),
        ("arm:b", PLACES["head/kernel"], "need filters that are drawn or fitted, such as he; not arm:b"),
    ],
)
def test_what_cannot_be_combined(source: str, place: Place, says: str) -> None:
    message = refused(FilterRule(".*", source, "frozen", 2), place)
    assert message.startswith(f"{place.path}: combinations ")
    assert says in message
