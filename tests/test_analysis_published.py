"""Measures of published weights."""

from pathlib import Path

import jax
import numpy as np
import pytest

from cnnjax.analysis.activity import activity
from cnnjax.analysis.confusion import confusion_matrix
from cnnjax.analysis.published import published
from cnnjax.analysis.subject import logits_of
from tests.test_models_torch_weights import IMAGE, LOGITS, published_file

# What torchvision's own transforms standardise to `IMAGE`, by their means and deviations of pixels from 0 to 1.
PIXELS = (255 * (IMAGE * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406])).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "which"), [("resnet18", "resnet18"), ("googlenet", "googlenet published")])
def test_published_weights_see_pixels_as_torchvision_standardises_them(
    network: str, which: str, tmp_path: Path
) -> None:
    subject = published(published_file(network, tmp_path), network)
    np.testing.assert_allclose(jax.jit(logits_of)(subject, PIXELS)[0], LOGITS[which], rtol=0, atol=1e-3)


@pytest.mark.slow
def test_published_weights_are_measured(tmp_path: Path) -> None:
    subject = published(published_file("resnet18", tmp_path), "resnet18")
    images = np.repeat(PIXELS, 3, axis=0)
    matrix = confusion_matrix(subject, images, np.array([0, 1, 1]), batch_size=2)
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [2, 0, 0], [0, 0, 0]])
    assert {finding.stage for finding in activity(subject, images, batch_size=2)} == set(subject.stages)
