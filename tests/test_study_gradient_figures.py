"""Gradients along training: every norm at its place, and what has vanished said."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import colormaps

from cnnjax.study.gradient_figures import exactly_zero, gradient_curves
from cnnjax.study.statistics import estimate
from tests.test_study_measure_figures import shaded


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
    assert "exactly 0" not in picture.sentence
    assert gradient_curves({"b": [pd.DataFrame([{"step": 1}])]}) is None


def test_colours_go_from_the_first_layer_to_the_last_and_zeros_are_counted() -> None:
    names = [f"gradient_norm/stage1/layer{n}/kernel" for n in range(1, 13)]
    run = pd.DataFrame([{"epoch": epoch, **dict.fromkeys(names, 1.0), names[0]: 0.0} for epoch in (0.0, 1.0)])
    picture = gradient_curves({"a": [run, run]})
    assert picture is not None
    drawn = picture.figure.axes[0].lines
    assert [line.get_color() for line in drawn] == [colormaps["viridis"](depth) for depth in np.linspace(0, 1, 12)]
    assert np.isnan(drawn[0].get_ydata()).all()
    assert picture.sentence.endswith(
        "gradients vanish. Norms that are exactly 0 have no place on the scale: 4 of 48 (a)."
    )


def test_what_was_not_measured_is_not_zero() -> None:
    assert exactly_zero([("a", [np.nan, 1.0]), ("b", [0.0, np.nan, 1e-300])]) == (
        "Norms that are exactly 0 have no place on the scale: 1 of 2 (b)."
    )
    assert exactly_zero([("a", [1.0])]) == ""
