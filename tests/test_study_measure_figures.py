"""Figures of measures: every number at its place, and words for whoever has not read the code."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from cnnjax.analysis.measures import MEASURES
from cnnjax.study.figures import MOST_ARMS_DRAWN, Picture
from cnnjax.study.measure_figures import MEANINGS, consistency_scatter, draw_measures, gradient_curves, too_many_to_draw
from cnnjax.study.results import COLUMNS
from cnnjax.study.statistics import estimate
from tests.test_analysis_measures import METRICS

NAN = float("nan")


def table(*rows: tuple[object, ...]) -> pd.DataFrame:
    """Rows of arm, seed, metric, stage, magnitude, value, low, high."""
    return pd.DataFrame([(*row[:2], "test", *row[2:]) for row in rows], columns=list(COLUMNS))


def drawn(results: pd.DataFrame) -> Picture:
    (picture,) = draw_measures(results)
    return picture


def lines(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """The points of each line by its label."""
    return {str(line.get_label()): list(zip(*line.get_data(), strict=True)) for line in axes.lines}


def shaded(axes: Axes, line: int, place: float) -> tuple[float, float]:
    """The least and the greatest of what is shaded at a place."""
    vertices = axes.collections[line].get_paths()[0].vertices
    at = vertices[np.isclose(vertices[:, 0], place), 1]
    return float(at.min()), float(at.max())


def test_over_magnitudes_with_the_interval_over_seeds() -> None:
    rows = [
        (arm, seed, "rotation/accuracy", None, magnitude, 0.5 + 0.1 * seed + 0.01 * magnitude, NAN, NAN)
        for arm in ("a", "b")
        for seed in (0, 1, 2)
        for magnitude in (10.0, -10.0)
    ]
    picture = drawn(table(*rows))
    (axes,) = picture.figure.axes
    assert lines(axes).keys() == {"a", "b"}
    np.testing.assert_allclose(lines(axes)["b"], [(-10, 0.5), (10, 0.7)])
    expected = estimate([0.6, 0.7, 0.8])
    np.testing.assert_allclose(shaded(axes, 1, 10), (expected.low, expected.high))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rotation (degrees)", "accuracy")
    assert picture.title == "Accuracy under rotation"
    assert picture.sentence.startswith("The share of the images whose class is right.")
    assert picture.name == "rotation_accuracy"


def test_of_one_seed_the_interval_is_that_over_images() -> None:
    rows = [("a", 0, "pgd_linf/accuracy", None, m, 0.5, 0.4, 0.7) for m in (0.0, 0.1)]
    (axes,) = drawn(table(*rows)).figure.axes
    np.testing.assert_allclose(shaded(axes, 0, 0.1), (0.4, 0.7))
    assert axes.get_xlabel() == "size of the change (share of the pixels' range)"


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("pgd_l2/accuracy", "length of the change (in the pixels' range)"),
        ("size/accuracy", "sides of the image, relative to those of training"),
        ("gain/accuracy", "gain (decibels)"),
    ],
)
def test_magnitudes_have_their_units(metric: str, label: str) -> None:
    (axes,) = drawn(table(("a", 0, metric, None, 1.0, 0.5, 0.4, 0.6))).figure.axes
    assert axes.get_xlabel() == label


def test_over_stages_in_the_network_s_order() -> None:
    rows = [
        ("a", 0, "probe_accuracy", stage, NAN, v, NAN, NAN) for stage, v in (("input", 0.2), ("b", 0.9), ("a", 0.5))
    ]
    (axes,) = drawn(table(*rows)).figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["input", "b", "a"]
    assert lines(axes)["a"] == [(0, 0.2), (1, 0.9), (2, 0.5)]
    assert axes.get_yscale() == "linear"


@pytest.mark.parametrize(("least", "scale"), [(1e-8, "log"), (0.0, "linear")])
def test_gradients_that_are_not_zero_are_on_a_logarithmic_scale(least: float, scale: str) -> None:
    rows = [("a", 0, "gradient_norm", stage, NAN, value, NAN, NAN) for stage, value in (("x", 1.0), ("y", least))]
    assert drawn(table(*rows)).figure.axes[0].get_yscale() == scale


def test_over_stages_and_magnitudes_a_field_for_each_stage() -> None:
    rows = [
        ("a", 0, "translation/equivariance_error", stage, m, v * m, NAN, NAN)
        for stage, v in (("input", 0), ("s1", 0.1), ("s2", 0.2), ("s3", 0.3), ("head", 0.4))
        for m in (1.0, 2.0)
    ]
    picture = drawn(table(*rows))
    shown = [axes for axes in picture.figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == ["input", "s1", "s2", "s3", "head"]
    np.testing.assert_allclose(lines(shown[3])["a"], [(1, 0.3), (2, 0.6)])
    assert picture.figure.get_supxlabel() == "translation (pixels)"
    assert picture.figure.get_supylabel() == "equivariance error"


def test_one_figure_for_each_metric_and_none_of_whole_runs_or_too_many_arms() -> None:
    whole = ("a", 0, "accuracy", None, NAN, 0.9, NAN, NAN)
    two = [("a", 0, metric, "s", NAN, 0.9, NAN, NAN) for metric in ("cka/b", "dead_units")]
    many = [(str(arm), 0, "zero_share", "s", NAN, 0.9, NAN, NAN) for arm in range(MOST_ARMS_DRAWN + 1)]
    assert [picture.title for picture in draw_measures(table(whole, *two, *many))] == [
        "Linear CKA with b",
        "Dead units",
    ]
    assert too_many_to_draw(table(whole, *two, *many)) == ["Zero share"]


@pytest.mark.parametrize(
    ("metric", "title"),
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
def test_titles_are_words(metric: str, title: str) -> None:
    assert drawn(table(("a", 0, metric, "s", NAN, 0.5, NAN, NAN))).title == title


def test_transfer_is_a_map_of_arms() -> None:
    rows = [
        (arm, seed, f"transfer/from {maker}/accuracy", None, 0.1, value + 0.1 * seed, NAN, NAN)
        for seed in (0, 1)
        for (arm, maker), value in {("a", "a"): 0, ("a", "b"): 0.5, ("b", "b"): 0.1, ("b", "a"): 0.8}.items()
    ]
    picture = drawn(table(*rows))
    axes = picture.figure.axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[5, 55], [85, 15]])
    assert [text.get_text() for text in axes.texts] == ["5", "55", "85", "15"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    assert "changed by 0.1 of the pixels' range" in picture.sentence


def test_accuracy_over_consistency_has_a_point_for_each_arm() -> None:
    rows = [("a", s, "random_shift/consistency", None, 4.0, 0.5 + s / 10, NAN, NAN) for s in (0, 1)]
    rows += [("b", 0, "random_shift/consistency", None, 4.0, 0.9, 0.85, 0.95)]
    rows += [(arm, s, "accuracy", None, NAN, 0.8, NAN, NAN) for arm, s in (("a", 0), ("a", 1), ("b", 0))]
    picture = consistency_scatter(table(*rows))
    assert picture is not None
    (axes,) = picture.figure.axes
    points = [container.lines[0].get_data() for container in axes.containers]
    np.testing.assert_allclose([(x[0], y[0]) for x, y in points], [(55, 80), (90, 80)])
    across = axes.containers[1].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(across, [(85, 80), (95, 80)])
    assert consistency_scatter(table(rows[-1])) is None


def test_numbers_that_are_not_finite_leave_the_others() -> None:
    rows = [
        ("a", 0, "normalised_variance", s, NAN, v, NAN, NAN) for s, v in (("x", NAN), ("y", float("inf")), ("z", 1.0))
    ]
    (axes,) = drawn(table(*rows)).figure.axes
    assert lines(axes)["a"][-1] == (2, 1.0)


def test_every_metric_of_the_measures_has_its_words() -> None:
    named = {metric for metrics in METRICS.values() for metric in metrics}
    staged = [metric for metric in named if not metric.startswith(("recall", "fooling"))]
    unexplained = [metric for metric in staged if not set(metric.split("/")) & set(MEANINGS)]
    assert not unexplained
    assert set(METRICS) < set(MEASURES)


def test_gradients_along_training() -> None:
    def run(factor: float) -> pd.DataFrame:
        first, last = "gradient_norm/stage1/kernel", "gradient_norm/head/kernel"
        return pd.DataFrame(
            [
                {"epoch": 0.0, "split": "train", first: 1e-3 * factor, last: 1.0},
                {"epoch": 1.0, "split": "train", first: 2e-3 * factor, last: 0.5},
                {"epoch": 1.0, "split": "train", "loss": 1.0},
            ]
        )

    picture = gradient_curves({"a$": [run(1), run(3)], "b": [pd.DataFrame([{"epoch": 1.0, "loss": 1.0}])]})
    assert picture is not None
    axes = picture.figure.axes[0]
    assert axes.get_title() == r"a\$" and axes.get_yscale() == "log"
    first, last = (list(zip(*line.get_data(), strict=True)) for line in axes.lines)
    np.testing.assert_allclose(first, [(0, 2e-3), (1, 4e-3)])
    np.testing.assert_allclose(last, [(0, 1), (1, 0.5)])
    assert shaded(axes, 0, 1)[1] == pytest.approx(estimate([2e-3, 6e-3]).high)
    assert shaded(axes, 0, 1)[0] == pytest.approx(4e-3)  # for the interval ends below 0
    assert gradient_curves({"b": [pd.DataFrame([{"step": 1}])]}) is None
