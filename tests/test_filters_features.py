"""Features computed once, in batches, are those of the network itself, and are kept under what decides on them."""

import jax
import numpy as np
import pytest

from cnnjax.filters import features
from cnnjax.filters.features import MemoryStore, compute_features, feature_function, feature_key, feature_shape
from cnnjax.models.convnet import convnet
from tests.variables import drawn_variables

MODEL = convnet(3, width=2, depth=2, kernel_size=3, norm="batch", dropout=0.5)
IMAGES = np.random.default_rng(1).integers(0, 256, (7, 8, 8, 2), np.uint8)
MEAN, STD = (100.0, 30.0), (50.0, 80.0)
VARIABLES = drawn_variables(MODEL, IMAGES.shape)
FEATURES = feature_function(MODEL, "stage2", MEAN, STD)


def computed(batch_size: int) -> np.ndarray:
    shape, dtype = feature_shape(FEATURES, VARIABLES, IMAGES.shape[1:])
    out = np.full((len(IMAGES), *shape), np.nan, dtype)
    compute_features(FEATURES, VARIABLES, IMAGES, batch_size, out, lambda share: None)
    return out


@pytest.mark.parametrize("batch_size", [3, 7, 10])
def test_batches_and_padding_leave_no_trace(batch_size: int) -> None:
    found = computed(batch_size)
    standardised = (IMAGES.astype(np.float32) - np.array(MEAN)) / np.array(STD)
    expected = jax.jit(lambda x: MODEL.apply(VARIABLES, x, until="stage2"))(standardised.astype(np.float32))
    assert (found.shape, found.dtype) == ((7, 2, 2, 4), np.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_every_batch_has_one_shape_and_is_told_before() -> None:
    events: list[object] = []

    def function(variables: object, images: jax.Array) -> jax.Array:
        events.append(images.shape)
        return images

    out = np.empty(IMAGES.shape, np.uint8)
    compute_features(function, {}, IMAGES, 3, out, events.append)
    assert events == [0, (3, 8, 8, 2), 3 / 7, (3, 8, 8, 2), 6 / 7, (3, 8, 8, 2)]
    np.testing.assert_array_equal(out, IMAGES)


def test_being_stopped_between_batches() -> None:
    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_features(lambda variables, images: images, {}, IMAGES, 3, np.empty(IMAGES.shape), stop)


def test_key_is_of_all_that_decides_on_features() -> None:
    def key(what: str = "convnet", path: str = "stage1/kernel", value: float = 1.0, mean: float = 0.0) -> str:
        return feature_key(what, {path: np.full(3, value, np.float32)}, {"stage1/mean": np.full(2, mean, np.float32)})

    different = [key(), key("lenet"), key(path="stage2/kernel"), key(value=1.0000001), key(mean=1.0)]
    assert len(set(different)) == 5
    assert key() == different[0]
    one, two = np.zeros(2, np.float32), np.ones(2, np.float32)
    assert feature_key("", {"a": one, "b": two}, {}) == feature_key("", {"b": two, "a": one}, {})
    assert feature_key("", {"a": one, "b": two}, {}) != feature_key("", {"a": two, "b": one}, {})


def test_store_fills_once_and_forgets_what_was_used_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "MOST_FEATURE_BYTES", 100)
    store, filled = MemoryStore(), []

    def get(key: str, size: int) -> np.ndarray:
        def fill(out: np.ndarray) -> None:
            filled.append(key)
            out[:] = ord(key)

        return store.get(key, (size,), np.dtype(np.uint8), fill)

    for key in "abacaab":
        array = get(key, 40)
        np.testing.assert_array_equal(array, np.full(40, ord(key), np.uint8))
    # c does not fit beside a and b, and b was used before a was.
    assert filled == ["a", "b", "c", "b"]
    assert get("d", 101).nbytes == 101  # one array alone may be larger
    get("d", 101)
    assert filled[4:] == ["d"]


def test_store_keeps_nothing_that_was_not_filled() -> None:
    store = MemoryStore()

    def stop(out: np.ndarray) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.get("a", (2,), np.dtype(np.float32), stop)
    assert store.get("a", (2,), np.dtype(np.float32), lambda out: out.fill(7)).tolist() == [7, 7]
