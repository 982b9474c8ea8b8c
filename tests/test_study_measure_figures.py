"""Figures of measures: every number at its place, and words for whoever has not read the code."""

from pathlib import Path

import numpy as np
import pandas as pd
from etils import epath
from matplotlib.axes import Axes

from cnnjax.study.figures import MOST_ARMS_DRAWN, Picture, save
from cnnjax.study.measure_figures import consistency_scatter, draw_measures, too_many_to_draw
from cnnjax.study.results import COLUMNS
from cnnjax.study.statistics import estimate

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


def test_over_stages_in_the_network_s_order() -> None:
    rows = [
        ("a", 0, "probe_accuracy", stage, NAN, v, NAN, NAN) for stage, v in (("input", 0.2), ("b", 0.9), ("a", 0.5))
    ]
    (axes,) = drawn(table(*rows)).figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["input", "b", "a"]
    assert lines(axes)["a"] == [(0, 0.2), (1, 0.9), (2, 0.5)]
    assert axes.get_yscale() == "linear"


def over_stages(arm: str, values: dict[str, float], metric: str = "gradient_norm") -> list[tuple[object, ...]]:
    """A row for each stage, of one seed."""
    return [(arm, 0, metric, stage, NAN, value, NAN, NAN) for stage, value in values.items()]


def test_a_stage_stands_behind_those_that_it_is_behind_in_any_arm() -> None:
    deep = {"input": 0.2, "stage1": 0.3, "stage2": 0.4, "stage3": 0.5, "head": 0.6}
    flat, shallow = ({stage: deep[stage] for stage in stages} for stages in (("input", "head"), tuple(deep)[:3]))
    shallow["head"] = 0.7
    rows = [row for arm, of in (("flat", flat), ("shallow", shallow), ("deep", deep)) for row in over_stages(arm, of)]
    (axes,) = drawn(table(*rows)).figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == list(deep)
    assert lines(axes)["flat"] == [(0, 0.2), (4, 0.6)]
    assert lines(axes)["shallow"] == [(0, 0.2), (1, 0.3), (2, 0.4), (4, 0.7)]
    both = [(*row[:2], "noise/invariance_error", row[3], 1.0, *row[5:]) for row in rows]
    assert [axes.get_title() for axes in drawn(table(*both)).figure.axes if axes.get_visible()] == list(deep)


def layers(blocks: int) -> dict[str, float]:
    """Of a plain network the norms of the gradients of its kernels, of three stages of so many blocks."""
    paths = [f"stage{stage}/block{block}" for stage in (1, 2, 3) for block in range(1, blocks + 1)]
    return {path: 10.0**place for place, path in enumerate(["stem", *paths, "head"])}


def test_deep_networks_are_drawn_over_their_own_depth() -> None:
    arms = {"plain 20": layers(5), "plain 56": layers(12), "linear": {"head": 2.0}}
    picture = drawn(table(*(row for arm, values in arms.items() for row in over_stages(arm, values))))
    (axes,) = picture.figure.axes
    assert picture.figure.get_figwidth() < 10
    for arm, values in (("plain 20", layers(5)), ("plain 56", layers(12))):
        expected = zip(np.linspace(0, 1, len(values)), values.values(), strict=True)
        np.testing.assert_allclose(lines(axes)[arm], list(expected))
    assert lines(axes)["linear"] == [(1, 2.0)]
    assert "over its own depth: 0 is the first of its layers, 1 the last." in picture.sentence


def test_arms_whose_orders_contradict_one_another_are_drawn_over_their_own_depth() -> None:
    rows = [*over_stages("a", {"x": 1.0, "y": 2.0}), *over_stages("b", {"y": 3.0, "x": 4.0})]
    (axes,) = drawn(table(*rows)).figure.axes
    assert (lines(axes)["a"], lines(axes)["b"]) == ([(0, 1.0), (1, 2.0)], [(0, 3.0), (1, 4.0)])


def test_gradients_are_on_a_logarithmic_scale_and_zeros_are_counted() -> None:
    rows = [
        ("a", seed, "gradient_norm", stage, NAN, value, NAN, NAN)
        for stage, values in (("x", (0.0, 0.0)), ("y", (0.0, 1e-8)), ("z", (1.0, 2.0)))
        for seed, value in enumerate(values)
    ]
    picture = drawn(table(*rows, *over_stages("b", {"x": 1.0, "y": 1.0, "z": 1.0})))
    (axes,) = picture.figure.axes
    assert axes.get_yscale() == "log"
    np.testing.assert_allclose(lines(axes)["a"], [(0, NAN), (1, 5e-9), (2, 1.5)])
    # Of an interval that ends below 0, what is below the mean is left out.
    np.testing.assert_allclose(shaded(axes, 0, 1), (5e-9, estimate([0.0, 1e-8]).high))
    assert "Norms that are exactly 0 have no place on the scale: 3 of 6 (a)." in picture.sentence


def test_gradients_that_have_all_vanished_are_drawn(tmp_path: Path) -> None:
    picture = drawn(table(*over_stages("a", {"x": 0.0, "y": 0.0})))
    assert save(picture, epath.Path(tmp_path))
    assert "no place on the scale: 2 of 2 (a)." in picture.sentence


def test_many_arms_are_told_apart_beside_the_figure() -> None:
    picture = drawn(table(*(row for arm in range(24) for row in over_stages(str(arm), {"x": 1.0, "y": 2.0}))))
    (axes,) = picture.figure.axes
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 24
    assert axes.get_legend() is None
    assert [text.get_text() for text in picture.figure.legends[0].get_texts()] == list(map(str, range(24)))


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


def transferred(arm: str, maker: str, value: float, seed: int = 0, size: float = 0.1) -> tuple[object, ...]:
    """How right an arm is about images made for another, with an interval of 0.05 to either side."""
    return (arm, seed, f"transfer/from {maker}/accuracy", None, size, value, value - 0.05, value + 0.05)


def test_transfer_is_a_map_of_arms_with_intervals() -> None:
    pairs = {("a", "a"): 0.3, ("a", "b"): 0.5, ("b", "b"): 0.1, ("b", "a"): 0.8}
    picture = drawn(table(*(transferred(*pair, value + 0.1 * s, s) for s in (0, 1) for pair, value in pairs.items())))
    axes = picture.figure.axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[35, 55], [85, 15]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    over_seeds = estimate([30, 40])
    assert axes.texts[0].get_text() == f"35\n[{over_seeds.low:.0f}, {over_seeds.high:.0f}]"
    assert (picture.name, picture.title) == ("transfer", "Adversarial images for other arms")
    assert "changed by 0.1 of the pixels' range" in picture.sentence


def test_transfer_of_each_size_has_a_map_and_what_is_missing_is_blank() -> None:
    rows = [transferred("a", "a", 0.2), transferred("a", "b", 0.4), transferred("b", "b", 0.6, size=0.3)]
    small, large = draw_measures(table(*rows))
    (axes, _), (alone, _) = small.figure.axes, large.figure.axes
    assert [text.get_text() for text in axes.texts] == ["20\n[15, 25]", "40\n[35, 45]"]
    assert [text.get_text() for text in alone.texts] == ["60\n[55, 65]"]
    assert "changed by 0.1 of" in small.sentence and "changed by 0.3 of" in large.sentence
    assert (small.name, large.name) == ("transfer_0.1", "transfer_0.3")
    (two, _) = draw_measures(table(rows[1], transferred("b", "b", 0.6)))[0].figure.axes
    np.testing.assert_array_equal(two.images[0].get_array().filled(-1), [[-1, 40], [-1, 60]])
    assert [text.get_text() for text in two.texts] == ["40\n[35, 45]", "60\n[55, 65]"]


def test_transfer_between_too_many_arms_is_named_instead() -> None:
    rows = table(*(transferred(str(arm), maker, 0.5) for arm in range(MOST_ARMS_DRAWN + 1) for maker in ("0", "1")))
    assert (draw_measures(rows), too_many_to_draw(rows)) == ([], ["Adversarial images for other arms"])


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
