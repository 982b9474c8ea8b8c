"""Words of the measures' metrics: for every one, and with units."""

import pytest

from cnnjax.analysis.measures import MEASURES
from cnnjax.study.measure_words import MEANINGS, axis_label, explanation, magnitude_label, title
from tests.test_analysis_measures import METRICS


def test_every_metric_of_the_measures_has_its_words() -> None:
    named = {metric for metrics in METRICS.values() for metric in metrics}
    staged = [metric for metric in named if not metric.startswith(("recall", "fooling"))]
    unexplained = [metric for metric in staged if not set(metric.split("/")) & set(MEANINGS)]
    assert not unexplained
    assert set(METRICS) < set(MEASURES)


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("pgd_l2/accuracy", "length of the change (in the pixels' range)"),
        ("size/accuracy", "sides of the image, relative to those of training"),
        ("gain/accuracy", "gain (decibels)"),
    ],
)
def test_magnitudes_have_their_units(metric: str, label: str) -> None:
    assert magnitude_label(metric) == label


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("fgsm_l2/accuracy", "Accuracy under FGSM in L2"),
        ("pgd_linf_targeted/success", "Success of the attack under PGD in L∞ towards a target"),
        ("scale/goodfellow_top", "Goodfellow's score under scale"),
        ("stroke_weight/goodfellow_whole", "Goodfellow's score (whole set) under stroke weight"),
        ("size/accuracy", "Accuracy at other sizes"),
        ("cka/next seed", "Linear CKA with the next seed"),
        ("output_gradient_norm_at_start", "Output gradient norm at start"),
    ],
)
def test_titles_are_words(metric: str, words: str) -> None:
    assert title(metric) == words


def test_a_metric_without_words_has_its_name() -> None:
    assert (axis_label("noise/some_thing"), explanation("noise/some_thing")) == ("noise/some thing", "")


def test_attacks_say_what_their_curves_count() -> None:
    assert explanation("fgsm_l2/accuracy") == (
        "The share of the images whose class is right. An image that fell to a smaller change counts as fallen to "
        "every greater one."
    )
    assert explanation("rotation/accuracy") == "The share of the images whose class is right."
