"""Features computed once, in batches, are those of the network itself."""

import jax
import numpy as np
import pytest

from cnnjax.filters import features
from cnnjax.filters.features import compute_features, feature_function, fits
from cnnjax.models.convnet import convnet
from tests.variables import drawn_variables

MODEL = convnet(3, width=2, depth=2, kernel_size=3, norm="batch", dropout=0.5)
IMAGES = np.random.default_rng(1).integers(0, 256, (7, 8, 8, 2), np.uint8)
MEAN, STD = (100.0, 30.0), (50.0, 80.0)
VARIABLES = drawn_variables(MODEL, IMAGES.shape)
FEATURES = feature_function(MODEL, "stage2", MEAN, STD)


@pytest.mark.parametrize("batch_size", [3, 7, 10])
def test_batches_and_padding_leave_no_trace(batch_size: int) -> None:
    found = compute_features(FEATURES, VARIABLES, IMAGES, batch_size, lambda: None)
    standardised = (IMAGES.astype(np.float32) - np.array(MEAN)) / np.array(STD)
    expected = jax.jit(lambda x: MODEL.apply(VARIABLES, x, until="stage2"))(standardised.astype(np.float32))
    assert found.shape == (7, 2, 2, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_every_batch_has_one_shape_and_is_asked_about_before() -> None:
    events: list[object] = []

    def function(variables: object, images: jax.Array) -> jax.Array:
        events.append(images.shape)
        return images

    found = compute_features(function, {}, IMAGES, 3, lambda: events.append("between"))
    assert events == ["between", (3, 8, 8, 2)] * 3
    np.testing.assert_array_equal(found, IMAGES)


def test_being_stopped_between_batches() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_features(lambda variables, images: images, {}, IMAGES, 3, stop)


def test_fit_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    bytes_of_one = 2 * 2 * 4 * 4  # four positions of four maps in float32
    monkeypatch.setattr(features, "MOST_FEATURE_BYTES", 1000 * bytes_of_one)
    assert fits(FEATURES, VARIABLES, (8, 8, 2), 1000)
    assert not fits(FEATURES, VARIABLES, (8, 8, 2), 1001)
