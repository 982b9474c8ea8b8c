"""Filters learned layer by layer: each sees what the layers below, fitted before it, make of the training split."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cnnjax.config import FilterRule, FitConfig, RequestError
from cnnjax.filters import greedy
from cnnjax.filters.combination import add_mixing, bank_place
from cnnjax.filters.greedy import Fitting, check_fittings, fit_greedily, look_function, plan_fittings
from cnnjax.filters.places import find_places
from cnnjax.filters.plan import Flat, cover, flatten, unflatten
from cnnjax.filters.unsupervised import FilterBank
from cnnjax.layers.auxiliary import AuxiliaryHead
from cnnjax.layers.connectivity import DenseConv, LocalConv
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.models.coates import coates
from cnnjax.models.convnet import convnet
from cnnjax.models.network import Network, Stage
from cnnjax.models.pcanet import pcanet
from tests.variables import drawn_variables

NOISE = np.random.default_rng(0).normal(size=(40, 8, 8, 2))
# Smoother along one axis than along the other: the principal components are told apart.
IMAGES = (128 + 150 * ndimage.gaussian_filter(NOISE, (0, 0.8, 1.6, 0))).clip(0, 255).astype(np.uint8)
MEAN, STD = (120.0, 130.0), (70.0, 50.0)
STANDARDISED = ((IMAGES - np.array(MEAN)) / np.array(STD)).astype(np.float32)
FLAT = Network((Stage("stage1", Dense(12)), Stage("head", Dense(3))))


class Fitted:
    """A network after its layers were fitted.

    Attributes:
      params: by path.
      seen: the patches [M, n] that each fit was given, in order; of grouped layers each group's.
      told: what was told of the progress.
    """

    def __init__(self, model: Network, plan: str, settings: FitConfig, images: np.ndarray = IMAGES) -> None:
        shape = images.shape[1:]
        variables = drawn_variables(model, (1, *shape))
        start, self.stats = flatten(variables["params"]), flatten(variables.get("batch_stats", {}))
        rules = cover(start, [rule_of(text) for text in plan.split(";")])
        places = {place.path: place for place in find_places(model, start, shape)}
        for path in places:
            if rules[path].combinations:
                bank = bank_place(places[path], rules[path])
                start[path] = np.ones(bank.shape, np.float32)
                start[f"{places[path].layer}/mixing"] = np.eye(bank.features, places[path].features, dtype=np.float32)
        fittings = plan_fittings(add_mixing(rules, places), places)
        looks = {fit.place.layer: look_function(model, fit.place, MEAN, STD) for fit in fittings}
        self.model, self.start, self.seen, self.told = model, start, [], []
        self.params: Flat = fit_greedily(
            fittings, looks, start, self.stats, images, settings, jax.random.key(0), self._tell
        )

    def _tell(self, what: str, share: float) -> None:
        self.told.append((what, share))

    def features(self, until: str) -> np.ndarray:
        """The output of a stage on the images, each bank times its matrix."""
        params = dict(self.params)
        for path in [path for path in params if path.endswith("/mixing")]:
            kernel, mixing = f"{path.removesuffix('mixing')}kernel", np.asarray(params.pop(path))
            params[kernel] = np.tensordot(np.asarray(params[kernel]), mixing, 1)
        return self._run(params, until)

    def features_before(self, until: str) -> np.ndarray:
        """Those before anything was fitted."""
        return self._run(self.start, until)

    def _run(self, params: Flat, until: str) -> np.ndarray:
        variables = {"params": unflatten(params), "batch_stats": unflatten(self.stats)}
        return np.asarray(jax.jit(lambda x: self.model.apply(variables, x, until=until))(STANDARDISED))


def rule_of(text: str) -> FilterRule:
    pattern, source, *rest = text.split()
    return FilterRule(pattern, source, "trained", int(rest[0]) if rest else 0)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The patches that the source `pca` is given; it makes its filters of the first of them, and biases 1, 2, ..."""
    return record_pca(monkeypatch)


def record_pca(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    patches: list[np.ndarray] = []

    def record(key: jax.Array, given: jax.Array, filters: int, settings: FitConfig, between: Any) -> FilterBank:
        patches.append(np.asarray(given))
        between(1.0)
        return FilterBank(given[:filters].T / given.shape[1], jnp.arange(1.0, filters + 1))

    monkeypatch.setitem(greedy.FITS, "pca", record)
    return patches


LAYERS = {
    "stage1": Conv(3, 3),
    "combined": Conv(2, 3),
    "grouped": Conv(6, 3, groups=2, padding="valid"),
    "dense": DenseConv(2, 5, padding="valid"),
    "head": Dense(3),
}
TOLD = [f"{what} {layer}" for layer in LAYERS for what in ("looking at", "fitting")]


@pytest.fixture(scope="module")
def ladder() -> tuple[Fitted, dict[str, list[np.ndarray]]]:
    """Every kind of layer above another, all fitted, and by layer what each group of it was given."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        seen = record_pca(monkeypatch)
        model = Network(tuple(Stage(name, layer) for name, layer in LAYERS.items()))
        plan = "(stage1|grouped|dense)/.*|head/kernel pca;combined/.* pca 3;head/bias init"
        fitted = Fitted(model, plan, FitConfig(patches=200))
    stage1, combined, *grouped, dense, head = seen
    return fitted, {"stage1": [stage1], "combined": [combined], "grouped": grouped, "dense": [dense], "head": [head]}


def windows(x: np.ndarray, size: int) -> np.ndarray:
    """All patches [M, size * size * C] of x [N, H, W, C], laid out as a kernel is."""
    places = [(i, j) for i in range(x.shape[1] - size + 1) for j in range(x.shape[2] - size + 1)]
    return np.concatenate([x[:, i : i + size, j : j + size].reshape(len(x), -1) for i, j in places])


def share_among(patches: np.ndarray, candidates: np.ndarray) -> float:
    """The share of the patches that are, but for rounding, among the candidates."""
    distance = np.abs(patches[:, None] - candidates[None]).max(-1).min(1)
    return float((distance < 1e-4 * np.abs(candidates).max()).mean())


def test_each_layer_sees_the_features_of_those_below_as_they_were_fitted(
    ladder: tuple[Fitted, dict[str, list[np.ndarray]]],
) -> None:
    fitted, seen = ladder
    stage1, combined, grouped, dense = (fitted.features(layer) for layer in list(LAYERS)[:4])
    candidates = {
        "stage1": [windows(STANDARDISED, 3)],
        "combined": [windows(stage1, 3)],
        "grouped": [windows(combined[..., :1], 3), windows(combined[..., 1:], 3)],
        "dense": [grouped.reshape(40, -1)],
        "head": [dense.reshape(40, -1)],
    }
    for layer, groups in candidates.items():
        for given, expected in zip(seen[layer], groups, strict=True):
            assert given.shape == (200, expected.shape[1])
            assert share_among(given, expected) == 1, layer
    # They are those of the fitted layers below, and not of what these were before.
    assert share_among(seen["combined"][0], windows(fitted.features_before("stage1"), 3)) < 0.1


def test_each_layer_has_the_filters_that_were_fitted_to_it(
    ladder: tuple[Fitted, dict[str, list[np.ndarray]]],
) -> None:
    fitted, seen = ladder
    shapes = {"stage1": (3, 3, 2, 3), "combined": (3, 3, 3, 6), "dense": (216, 8), "head": (8, 3)}
    for layer, shape in shapes.items():
        filters = seen[layer][0][: shape[-1]].T / np.float32(np.prod(shape[:-1]))
        np.testing.assert_allclose(fitted.params[f"{layer}/kernel"], filters.reshape(shape), rtol=1e-6)
    for group, given in enumerate(seen["grouped"]):
        kernel = fitted.params["grouped/kernel"][..., 3 * group : 3 * group + 3]
        np.testing.assert_allclose(kernel, given[:3].T.reshape(3, 3, 1, 3) / 9, rtol=1e-6)


def test_bias_is_fitted_where_its_rule_says_so_and_takes_the_layers_shape(
    ladder: tuple[Fitted, dict[str, list[np.ndarray]]],
) -> None:
    params, start = ladder[0].params, ladder[0].start
    assert params["stage1/bias"].tolist() == [1, 2, 3]
    assert params["grouped/bias"].tolist() == [1, 2, 3, 1, 2, 3]
    np.testing.assert_array_equal(params["dense/bias"], np.arange(1, 9).reshape(2, 2, 2))
    # That of a bank would have to be combined with it, and that of the head has another source.
    for path in ("combined/bias", "combined/mixing", "head/bias"):
        np.testing.assert_array_equal(params[path], start[path])


def test_patches_are_from_many_images_and_positions(ladder: tuple[Fitted, dict[str, list[np.ndarray]]]) -> None:
    given = ladder[1]["stage1"][0]
    found = np.abs(given[:, None] - windows(STANDARDISED, 3)[None]).max(-1).argmin(1)
    positions, images = np.divmod(found, len(IMAGES))
    assert len(set(images)) >= 38  # of 40, and of 36 positions: 200 draws miss a few of them at most
    assert len(set(positions)) >= 34


def test_progress_names_each_layer(ladder: tuple[Fitted, dict[str, list[np.ndarray]]]) -> None:
    told = ladder[0].told
    assert list(dict.fromkeys(what for what, _ in told)) == TOLD
    assert [share for what, share in told if what == "fitting grouped"] == [0.5, 1]


@pytest.mark.parametrize("patches", [30, 513])
def test_number_of_patches_whatever_the_number_of_images(seen: list[np.ndarray], patches: int) -> None:
    images = np.repeat(IMAGES[:, :2, :2], 13, axis=0)  # 520: two batches
    Fitted(FLAT, "stage1/.* pca;head/.* init", FitConfig(patches=patches), images)
    assert seen[0].shape == (patches, 8)


def test_coates_network_whitens_and_clusters_what_it_whitened(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = []
    kmeans = greedy.CENTROID_FITS["kmeans"]

    def record(key: jax.Array, given: jax.Array, *rest: Any) -> jax.Array:
        vectors.append(np.asarray(given))
        return kmeans(key, given, *rest)

    monkeypatch.setitem(greedy.CENTROID_FITS, "kmeans", record)
    settings = FitConfig(patches=6000, iterations=60, whitening=0.0)
    plan = "whiten/.* zca;code/.* kmeans;head/.* init"
    fitted = Fitted(coates(3, width=4, kernel_size=2), plan, settings)
    # Each of the patches' eight values has lost the mean: their covariance is the identity on what is left.
    whitened = fitted.features("whiten").reshape(-1, 8)
    projector = np.eye(8) - 1 / 8
    np.testing.assert_allclose(whitened.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(np.cov(whitened.T), projector, atol=0.08)
    # The centroids are the means of what is nearest to them, in the space that the code sees.
    assert share_among(vectors[0][:200], whitened) == 1
    centroids = np.asarray(fitted.params["code/centroids"]).T
    nearest = np.square(vectors[0][:, None] - centroids[None]).sum(-1).argmin(1)
    for number, centroid in enumerate(centroids):
        np.testing.assert_allclose(centroid, vectors[0][nearest == number].mean(0), atol=0.02)


@pytest.mark.slow
def test_pcanet_has_the_components_of_patches_of_single_maps() -> None:
    images, x = IMAGES[..., :1], STANDARDISED[..., :1]
    model = pcanet(3, width=2, kernel_size=3, pool_size=4)
    settings = FitConfig(patches=4000)
    shape = images.shape[1:]
    params = flatten(drawn_variables(model, (1, *shape))["params"])
    rules = cover(params, [FilterRule("stage./.*", "pca", "frozen"), FilterRule("head/.*")])
    fittings = plan_fittings(rules, {place.path: place for place in find_places(model, params, shape)})
    looks = {fit.place.layer: look_function(model, fit.place, MEAN[:1], STD[:1]) for fit in fittings}
    found = fit_greedily(fittings, looks, params, {}, images, settings, jax.random.key(0), lambda what, share: None)
    maps = np.asarray(jax.jit(lambda x: model.apply({"params": unflatten(found)}, x, until="stage1"))(x))
    single = np.concatenate([maps[..., :1], maps[..., 1:]])
    for kernel, seen in ((found["stage1/kernel"], x), (found["stage2/layer/kernel"], single)):
        patches = windows(seen, 3)
        patches = patches - patches.mean(1, keepdims=True)
        components = np.linalg.svd(patches, full_matrices=False)[2][:2]
        filters = np.asarray(kernel).reshape(9, 2).T
        cosines = (components @ filters.T) / np.linalg.norm(filters, axis=1)
        # Signs are free, and the patches of the fit are a sample: both span the same plane.
        np.testing.assert_allclose(np.linalg.svd(cosines)[1], 1, atol=0.01)


def test_fitting_may_be_stopped(seen: list[np.ndarray]) -> None:
    class Stopping(Fitted):
        def _tell(self, what: str, share: float) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stopping(FLAT, "stage1/.* pca;head/.* init", FitConfig(patches=10))
    assert not seen


def test_too_few_patches_for_the_filters_names_the_layer() -> None:
    with pytest.raises(RequestError, match=r"^stage1/kernel: .* distinct patches cannot support 12 filters.*$"):
        Fitted(FLAT, "stage1/.* kmeans;head/.* init", FitConfig(patches=10))


@pytest.mark.parametrize(
    ("layer", "source", "says"),
    [
        (LocalConv(2, 3), "kmeans", "stage1/kernel: kmeans can be fitted to convolutions and dense layers alone"),
        (Conv(2, 9), "pca", "stage1/kernel: no window of (9, 9) lies within its input of (8, 8)"),
        (AuxiliaryHead(Dense(2)), "pca", "stage1/head sees nothing in evaluation"),
    ],
)
def test_layers_that_nothing_can_be_fitted_to(layer: Any, source: str, says: str) -> None:
    model = Network((Stage("stage1", layer), Stage("head", Dense(3))))
    with pytest.raises(RequestError) as caught:
        Fitted(model, f"stage1/.* {source};head/.* init", FitConfig(patches=10))
    assert str(caught.value).startswith(says)


def test_centroids_come_from_what_gives_centroids() -> None:
    with pytest.raises(RequestError, match="code/centroids: centroids come from patches or kmeans, not pca"):
        Fitted(coates(3, width=4, kernel_size=2), "code/.* pca;(whiten|head)/.* init", FitConfig())


@pytest.mark.parametrize(
    ("source", "width", "problem"),
    [
        ("pca", 9, "pca cannot give 9 filters: patches of 9 values have 8 principal components"),
        ("zca", 8, "zca cannot give 8 filters: whitening gives as many filters as a patch has values, 9"),
        ("kmeans", 8, r"kmeans cannot give 8 filters: config\.fit\.patches is 7"),
        ("patches", 8, r"patches cannot give 8 filters: config\.fit\.patches is 7"),
        ("pca", 7, r"pca cannot give 7 filters: config\.fit\.patches is 7"),
        ("zca", 9, r"zca cannot give 9 filters: config\.fit\.patches is 7"),
    ],
)
def test_numbers_of_filters_that_no_data_could_give(source: str, width: int, problem: str) -> None:
    def fittings(width: int) -> list[Fitting]:
        model = convnet(3, width=width, depth=1, kernel_size=3)
        params = flatten(drawn_variables(model, (1, 8, 8, 1))["params"])
        rules = cover(params, [FilterRule("stage1/.*", source), FilterRule("head/.*")])
        return plan_fittings(rules, {place.path: place for place in find_places(model, params, (8, 8, 1))})

    with pytest.raises(RequestError, match=f"^stage1/conv/kernel: {problem}$"):
        check_fittings(fittings(width), 7)
    check_fittings(fittings(9 if source == "zca" else 7), 10 if source in ("pca", "zca") else 7)


def test_fittings_are_in_the_order_of_execution() -> None:
    model = convnet(3, width=3, depth=2, kernel_size=3, norm="batch")
    params = flatten(drawn_variables(model, (1, 8, 8, 2))["params"])
    places = {place.path: place for place in find_places(model, params, (8, 8, 2))}
    plan = [FilterRule("head/.*", "kmeans"), FilterRule("stage2/.*", "pca"), FilterRule("stage1/.*", "gaussian")]
    rules = cover(params, plan)
    assert plan_fittings(rules, places) == [
        Fitting(places["stage2/conv/kernel"], "pca", None),  # a norm takes the place of its bias
        Fitting(places["head/layer/kernel"], "kmeans", "head/layer/bias"),
    ]
