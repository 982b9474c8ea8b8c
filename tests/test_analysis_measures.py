"""Every measure by its name, in one and two dimensions, on a network of nothing but chance."""

import dataclasses
import functools
from typing import Any, cast

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.analysis.gradients import gradient_norms
from cnnjax.analysis.measures import MEASURES, take
from cnnjax.analysis.occasion import Occasion
from cnnjax.analysis.pictures import PICTURES
from cnnjax.analysis.subject import Subject, logits_of
from cnnjax.config import MeasureConfig

# By name: the metrics (a part of each) that the measure must give; none for pictures.
METRICS = {
    "accuracy": {"translation/accuracy", "translation/agreement"},
    "consistency": {"random_shift/consistency"},
    "equivariance": {"translation/equivariance_error", "translation/invariance_error"},
    "normalised_variance": {"translation/normalised_variance"},
    "goodfellow": {"translation/goodfellow_top", "translation/goodfellow_whole"},
    "lie_derivative": {"translation/lie_derivative"},
    "probes": {"probe_accuracy"},
    "cka": {"cka/learned"},
    "gradients": {
        *("gradient_norm", "output_gradient_norm"),
        *("gradient_norm_at_start", "output_gradient_norm_at_start"),
    },
    "receptive_field": {"effective_receptive_field"},
    "activity": {"dead_units", "zero_share", "sparseness"},
    "confusion": {"recall/0", "recall/1", "recall/2", "recall/all"},
    "robustness": {
        *("fgsm_linf/accuracy", "pgd_linf/accuracy", "fgsm_l2/accuracy", "pgd_l2/accuracy"),
        "pgd_linf_targeted/success",
    },
    "transfer": {"transfer/from random/accuracy", "transfer/from learned/accuracy"},
    "sizes": {"size/accuracy"},
    "fooling": {"fooling by gradient", "fooling by evolution"},
}
QUICK = ("consistency", "equivariance", "cka", "gradients", "receptive_field", "activity", "confusion", "transfer")


ALONG = {1: ("shift",), 2: ("translation",), 3: ()}
"""By the number of spatial dimensions the transformation; there is none of volumes."""


@functools.cache
def occasion(dimensions: int) -> Occasion:
    rng = np.random.default_rng(0)
    shape = (*(8,) * dimensions, 1)
    model = cnnjax.build("convnet", num_classes=3, width=2, depth=1, kernel_size=3, pool="max")
    one, two = (
        Subject(model, model.init(jax.random.key(seed), np.zeros((1, *shape), np.float32)), (120.0,), (60.0,))
        for seed in (0, 1)
    )
    images = rng.integers(0, 256, (100, *shape)).astype(np.uint8)
    labels = np.arange(100) % 3
    settings = MeasureConfig(transformations=ALONG[dimensions], magnitudes=3, epsilons=(0.0, 0.1), batch_size=50)
    arms, key = {"learned": two}, jax.random.key(0)
    seen = images, labels
    return Occasion(one, *seen, seen, seen, "random", arms, arms, settings, key, lambda: two)


def test_every_measure_has_its_metrics_here() -> None:
    assert set(METRICS) | set(PICTURES) == set(MEASURES)


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [
        (name, dimensions) if name in quick else pytest.param(name, dimensions, marks=pytest.mark.slow)
        for dimensions, quick in ((1, ("accuracy", "strongest")), (2, QUICK), (3, ()))
        for name in MEASURES
    ],
)
def test_measure(name: str, dimensions: int) -> None:
    shown = occasion(dimensions)
    measured = take([name], shown)[name]
    expected = {
        metric.replace("translation", *ALONG[1]) if dimensions == 1 else metric for metric in METRICS.get(name, ())
    }
    if dimensions == 3:
        expected = {metric for metric in expected if not metric.startswith("translation")}
    assert {finding.metric for finding in measured.findings} == expected
    assert all(f.stage is None or f.stage.split("/")[0] in shown.subject.stages for f in measured.findings)
    if name in PICTURES:
        assert measured.arrays
        assert all(np.isfinite(array).all() and array.size for array in measured.arrays.values())


class OnDisk:
    """Images that are read when they are looked at, fewer than all at a time."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images
        self.shape, self.ndim, self.dtype = images.shape, images.ndim, images.dtype

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> np.ndarray:
        read = self._images[index]
        assert read.ndim < self.ndim or len(read) <= len(self) / 2
        return read


@pytest.mark.parametrize(
    "name",
    [
        name if name in (*QUICK, "probes", "strongest") else pytest.param(name, marks=pytest.mark.slow)
        for name in MEASURES
    ],
)
def test_images_are_read_a_batch_at_a_time(name: str) -> None:
    shown = occasion(2)
    read = cast(np.ndarray, OnDisk(shown.images)), shown.labels
    streamed = dataclasses.replace(shown, images=read[0], training=read, training_part=read)
    found, expected = (take([name], each)[name] for each in (streamed, shown))
    assert found.findings == expected.findings
    jax.tree.map(np.testing.assert_array_equal, found.arrays, expected.arrays)


@pytest.mark.parametrize("name", [pytest.param("robustness", marks=pytest.mark.slow), "transfer"])
def test_signals_beyond_those_that_were_trained_on_are_legal(name: str) -> None:
    shown = occasion(1)
    louder = shown.images.astype(np.float32)
    louder[70, 0] = [300]
    given = dataclasses.replace(shown, images=louder)
    assert take([name], given)[name].findings
    beyond = dataclasses.replace(given, images=louder.astype(np.int16))  # of whatever type, but bytes
    assert take([name], beyond)[name].findings == take([name], given)[name].findings


def test_gradients_are_of_the_loss_that_the_run_was_trained_by() -> None:
    shown = occasion(1)
    smoothed = dataclasses.replace(shown, label_smoothing=0.2)
    images, labels = shown.training_part
    expected = gradient_norms(shown.subject, images, labels, key=shown.key, label_smoothing=0.2, batch_size=50)
    found = take(["gradients"], smoothed)["gradients"].findings
    assert found[: len(expected)] == expected != take(["gradients"], shown)["gradients"].findings[: len(expected)]


def test_what_drives_the_classes_are_whole_images() -> None:
    shown = occasion(1)
    arrays = take(["strongest"], shown)["strongest"].arrays
    logits = np.asarray(logits_of(shown.subject, shown.images))
    best = shown.images[logits.argmax(axis=0)]
    np.testing.assert_array_equal(arrays["head"][:, 0], best)
    assert set(arrays) == set(shown.subject.model.stage_names)


def test_measures_that_share_a_walk_find_what_each_finds_alone() -> None:
    names = ("accuracy", "goodfellow", "normalised_variance")
    together = take(names, occasion(1))
    assert [together[name] for name in names] == [MEASURES[name](occasion(1)) for name in names]
