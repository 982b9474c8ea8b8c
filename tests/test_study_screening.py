"""Screening: what is chosen, what the choice loses and costs, and what is said of it."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from etils import epath

from cnnjax.study.figures import save
from cnnjax.study.results import COLUMNS
from cnnjax.study.screening import (
    HEADINGS,
    choose_top,
    complete,
    cost_share,
    findings,
    linear_on_pixels,
    regret,
    screening_table,
    table_rows,
)
from cnnjax.study.screening_figures import draw_screening, regrets, scatter
from cnnjax.study.statistics import estimate

NONE = estimate([])
SCREENING = {name: (f"{name} random", f"{name} trained") for name in "abcd"}
# By the seed: validation and test accuracy of the random arm, test accuracy of the trained arm.
RANDOM = {"a": [(0.5, 0.9), (0.7, 0.9)], "b": [(0.8, 0.1)], "c": [(0.6, 0.8), (0.6, 0.7)], "d": [(0.2, 0.3)]}
TRAINED = {"a": [0.95, 0.97], "b": [0.9], "c": [0.98], "d": [0.5, 0.5]}


def run(arm: str, seed: int, validation: float, test: float, seconds: float = 1.0, size: int = 7) -> list[list[object]]:
    """The rows of one finished run, and one of a disturbed evaluation, which is none of screening's."""
    nan = math.nan
    return [
        [arm, seed, "validation", "accuracy", nan, nan, validation],
        [arm, seed, "test", "accuracy", nan, nan, test],
        [arm, seed, "test", "accuracy", nan, 3.0, 0.0],
        [arm, seed, nan, "parameters", nan, nan, size],
        [arm, seed, nan, "features", nan, nan, 10 * size],
        [arm, seed, nan, "train_seconds", nan, nan, seconds],
        [arm, seed, nan, "preparation_seconds", nan, nan, 0.5],
    ]


def results_of(trained: str = "abcd") -> pd.DataFrame:
    rows = run("linear on pixels", 0, 0.4, 0.45)
    for size, (name, seeds) in enumerate(RANDOM.items(), 1):
        for seed, (validation, test) in enumerate(seeds):
            rows += run(f"{name} random", seed, validation, test, size=size)
        for seed, test in enumerate(TRAINED[name] if name in trained else []):
            rows += run(f"{name} trained", seed, 0.99, test, seconds=9.5, size=size)
    return pd.DataFrame(rows, columns=list(COLUMNS[:-2]))


@pytest.fixture
def table() -> pd.DataFrame:
    return screening_table(results_of(), SCREENING)


def test_table_has_the_means_over_seeds(table: pd.DataFrame) -> None:
    rows = table.set_index("architecture")
    assert list(rows.index) == list("abcd")
    first = rows.loc["a"]
    means = first[["random_validation", "random_test", "trained_validation", "trained_test"]]
    assert means.tolist() == pytest.approx([0.6, 0.9, 0.99, 0.96])
    expected = estimate([0.95, 0.97])
    assert (first.trained_test_low, first.trained_test_high) == pytest.approx((expected.low, expected.high))
    assert math.isnan(rows.loc["b"].trained_test_low)
    assert rows.parameters.tolist() == [1, 2, 3, 4]
    assert rows.features.tolist() == [10, 20, 30, 40]
    # Of all seeds together, with preparation.
    assert rows.random_seconds.tolist() == [3, 1.5, 3, 1.5]
    assert rows.trained_seconds.tolist() == [20, 10, 10, 20]
    assert rows.random_runs.tolist() == [2, 1, 2, 1]
    assert rows.trained_runs.tolist() == [2, 1, 1, 2]


def test_arms_that_were_not_run_are_nan() -> None:
    results = results_of(trained="bc")
    rows = screening_table(results[results.arm != "d random"], SCREENING).set_index("architecture")
    assert rows.trained_test.isna().tolist() == [True, False, False, True]
    assert rows.trained_seconds.isna().tolist() == [True, False, False, True]
    assert rows.parameters.isna().tolist() == [True, False, False, True]
    assert rows.trained_runs.tolist() == [0, 1, 1, 0]
    assert math.isnan(rows.random_validation["d"])
    assert complete(rows.reset_index()).architecture.tolist() == ["b", "c"]


def test_top_is_chosen_by_the_mean_validation_accuracy_of_the_random_arm() -> None:
    results = results_of(trained="")
    # a and c are equal and stay in order; b has the worst test accuracy, and is still the first.
    assert choose_top(results, SCREENING, 3) == ["b trained", "a trained", "c trained"]
    assert choose_top(results, SCREENING, 9) == ["b trained", "a trained", "c trained", "d trained"]
    assert choose_top(results[results.arm != "b random"], SCREENING, 1) == ["a trained"]
    assert choose_top(results[:0], SCREENING, 2) == []


def test_equal_means_are_equal_however_they_are_added_up() -> None:
    assert np.mean([0.1, 0.2, 0.3]) > 0.2
    rows = run("b random", 0, 0.2, 0.5)
    for seed, validation in enumerate([0.1, 0.2, 0.3]):
        rows += run("c random", seed, validation, 0.5)
    results = pd.DataFrame(rows, columns=list(COLUMNS[:-2]))
    assert choose_top(results, SCREENING, 2) == ["b trained", "c trained"]


def test_regret_by_hand(table: pd.DataFrame) -> None:
    # In the order b, a, c, d the trained arms reach 0.9, 0.96, 0.98, 0.5.
    lost = regret(table, [1, 2, 3, 4]).set_index("top")
    assert lost.regret.tolist() == pytest.approx([0.08, 0.02, 0, 0], abs=1e-12)
    # Two of the four at random: three of the six pairs have the best, two more the second, one the third.
    expected = [0.98 - (0.9 + 0.96 + 0.98 + 0.5) / 4, 0.98 - (3 * 0.98 + 2 * 0.96 + 0.9) / 6, 0.02 / 4, 0]
    assert lost.by_chance.tolist() == pytest.approx(expected, abs=1e-12)
    assert lost.cost.tolist() == pytest.approx([19 / 60, 39 / 60, 49 / 60, 69 / 60])
    assert cost_share(table) == pytest.approx(9 / 60)
    # The greatest network first: d, c, b, a; and no random arm is run for it.
    by_size = regret(table, [1, 2], "parameters")
    assert by_size.regret.tolist() == pytest.approx([0.48, 0])
    assert by_size.cost.tolist() == pytest.approx([20 / 60, 30 / 60])


def test_regret_is_among_the_architectures_with_both_arms() -> None:
    table = screening_table(results_of(trained="abd"), SCREENING)
    assert regret(table, [1, 3]).regret.tolist() == pytest.approx([0.06, 0])
    # All four were run with random filters, which took 9 s; the three took 50 s to train.
    assert cost_share(table) == pytest.approx(9 / (4 * 50 / 3))
    assert regret(table, [1]).cost.tolist() == pytest.approx([(9 + 10) / (4 * 50 / 3)])
    with pytest.raises(ValueError, match=r"top must be in \[1, 3\].* given 4"):
        regret(table, [4])


def test_findings_are_sentences_with_values(table: pd.DataFrame) -> None:
    found = {quantity: (value, sentence) for quantity, value, sentence in findings(table, estimate([0.45, 0.47]))}
    assert found["architectures"][0] == "4 of 4"
    assert "narrowed" not in found["architectures"][1]
    # Validation .6 .8 .6 .2 with test .96 .9 .98 .5: of 6 pairs 1 is tied, 3 agree, 2 do not: 1 / sqrt(5 * 6).
    assert found["Kendall tau-b"][0] == "0.18"
    # Sizes 1 2 3 4: two of six pairs agree.
    assert found["tau-b of the parameter count"][0] == found["tau-b of the feature dimension"][0] == "-0.33"
    assert "(rho -0.40" in found["tau-b of the parameter count"][1]
    assert "less this one's is 0.52." in found["tau-b of the parameter count"][1]
    assert found["linear on pixels (%)"][0].startswith("46.0 [")
    assert found["regret of the top 1"] == (
        "8.00",
        "Points of test accuracy below the best of all when only the top 1 by random filters are trained, at 32% of "
        "the full cost; by the parameter count, 48.00; by the feature dimension, 48.00; chosen at random, 14.50.",
    )
    assert "regret of the top 5" not in found
    assert found["share of the cost (%)"][0] == "15.0"


def test_findings_say_what_is_missing() -> None:
    results = results_of(trained="ab")
    results = results[results.metric != "features"]
    found = {quantity: (value, sentence) for quantity, value, sentence in findings_of(results)}
    assert found["architectures"][0] == "2 of 4"
    assert "narrowed" in found["architectures"][1]
    assert "tau-b of the feature dimension" not in found
    nothing = dict(line[:2] for line in findings_of(results[:0]))
    assert nothing["Kendall tau-b"] == nothing["share of the cost (%)"] == nothing["linear on pixels (%)"] == "–"


def findings_of(results: pd.DataFrame) -> list[tuple[str, str, str]]:
    return findings(screening_table(results, SCREENING), linear_on_pixels(results))


def test_table_as_text_is_in_the_order_of_choice() -> None:
    rows = table_rows(screening_table(results_of(trained="b"), SCREENING))
    assert [row[0] for row in rows] == ["b", "a", "c", "d"]
    assert all(len(row) == len(HEADINGS) for row in rows)
    assert rows[0][1:] == ["80.0", "10.0", "99.0", "90.0", "2", "20", "1.5", "10.0", "1 + 1"]
    assert rows[1][3:6] == ["–", "–", "–"]
    assert rows[1][-2:] == ["–", "2 + 0"]


def test_scatter_shows_each_architecture_and_marks_the_top(table: pd.DataFrame) -> None:
    table["architecture"] = [r"$\nonsense{$", *"bcd"]
    picture = scatter(table, estimate([0.45]), 2)
    (axes,) = picture.figure.axes
    chosen, others = (container.lines[0].get_xydata() for container in axes.containers)
    np.testing.assert_allclose(chosen, [[80, 90], [60, 96]])
    np.testing.assert_allclose(others, [[60, 98], [20, 50]])
    low, high = axes.containers[0].lines[2][1].get_segments()[1][:, 1]
    expected = estimate(TRAINED["a"])
    assert (low, high) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert axes.get_xlim() == pytest.approx((20 - 9, 80 + 9))  # the points decide, and not the intervals
    assert axes.get_ylim() == pytest.approx((45 - 0.15 * 53, 98 + 0.15 * 53))
    assert axes.lines[-1].get_ydata() == [45, 45]
    assert [text.get_text() for text in axes.texts] == ["b", "c"]
    assert "tau-b 0.18, Spearman rho " in picture.title


def test_regret_is_drawn_at_its_values(table: pd.DataFrame) -> None:
    left, right = regrets(table).figure.axes
    np.testing.assert_allclose(left.lines[0].get_xydata(), [[1, 8], [2, 2], [3, 0], [4, 0]], atol=1e-9)
    np.testing.assert_allclose(right.lines[0].get_ydata(), np.array([19, 39, 49, 69]) / 0.6)


def test_pictures_are_saved_whatever_the_names(tmp_path: Path) -> None:
    screening = {r"$\nonsense{$": SCREENING["b"], "<x&y>": SCREENING["c"]}
    pictures = draw_screening(screening_table(results_of(), screening), NONE, 5)
    assert [picture.name for picture in pictures] == ["screening", "regret"]
    for picture in pictures:
        assert save(picture, epath.Path(tmp_path)).startswith(b"<?xml")


def test_nothing_is_drawn_before_an_architecture_has_both_arms() -> None:
    assert draw_screening(screening_table(results_of(trained=""), SCREENING), NONE, 3) == []
