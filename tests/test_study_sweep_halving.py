"""Successive halving: rungs, who climbs them, and what takes the place of those that stop."""

import math

import pytest

from cnnjax.study.sweep.halving import batches_to_come, next_batch, rungs


@pytest.mark.parametrize(
    ("epochs", "least", "eta", "expected"),
    [
        (27, 1, 3, (1, 3, 9, 27)),
        (10, 1, 3, (1, 3, 10)),
        (9, 2, 2, (2, 4, 9)),
        (3, 1, 3, (1, 3)),
        (2, 1, 3, (2,)),
        (0.9, 0.3, 3, (0.3, 0.9)),
        (0.9, 0.1, 3, (0.1, 0.3, 0.9)),
    ],
)
def test_rungs(epochs: float, least: float, eta: int, expected: tuple[float, ...]) -> None:
    assert rungs(epochs, least, eta) == expected


def climb(quality: list[float], count: int, eta: int, slots: int) -> tuple[list[tuple[int, list[int]]], list[int]]:
    """The batches of trials with a planted quality, the score at every rung; and how many rungs each has reached."""
    scores: dict[str, list[float]] = {str(number): [] for number in range(len(quality))}
    batches = []
    while batch := next_batch(scores, count, eta, slots):
        rung, trials = batch
        batches.append((rung, [int(trial) for trial in trials]))
        for trial in trials:
            assert len(scores[trial]) == rung, "a trial that is given must be below the rung"
            scores[trial].append(quality[int(trial)])
    return batches, [len(reached) for reached in scores.values()]


def test_with_slots_for_all_it_is_plain_successive_halving() -> None:
    quality = [((7 * number) % 27) / 27 for number in range(27)]
    batches, reached = climb(quality, 4, 3, 27)
    best = sorted(range(27), key=lambda number: -quality[number])
    assert [rung for rung, _ in batches] == [0, 1, 2, 3]
    assert [trials for _, trials in batches] == [list(range(27)), best[:9], best[:3], best[:1]]
    assert reached == [4 if n == best[0] else 3 if n in best[:3] else 2 if n in best[:9] else 1 for n in range(27)]


def test_slots_of_those_that_stop_are_taken_by_those_that_wait() -> None:
    quality = [number / 12 for number in range(12)]
    batches, _ = climb(quality, 3, 2, 3)
    assert batches == [
        (0, [0, 1, 2]),
        (0, [3, 4, 5]),
        (1, [5, 4, 3]),  # of six, three may go on, and fill the slots
        (0, [6, 7, 8]),
        (1, [8, 7, 6]),  # of nine, four: these three, and 5, which has gone on
        (2, [8, 7, 6]),
        (0, [9, 10, 11]),
        (1, [11, 10, 9]),
        (2, [11, 10, 9]),
    ]


@pytest.mark.parametrize("trials", [1, 2, 4])
def test_one_at_least_comes_to_the_end(trials: int) -> None:
    quality = [number / trials for number in range(trials)]
    _, reached = climb(quality, 3, 3, 8)
    assert reached == [*([1] * (trials - 1)), 3]


def test_equal_trials_are_taken_in_order() -> None:
    batches, _ = climb([0.5] * 9, 2, 3, 9)
    assert batches[1] == (1, [0, 1, 2])


def test_failed_trials_do_not_go_on() -> None:
    quality = [-math.inf, 0.1, -math.inf, 0.2]
    batches, _ = climb(quality, 2, 2, 4)
    assert batches == [(0, [0, 1, 2, 3]), (1, [3, 1])]
    assert next_batch({"a": [-math.inf], "b": [-math.inf]}, 2, 2, 4) is None


def test_next_best_goes_on_where_the_best_failed_later() -> None:
    assert next_batch({"a": [0.9, -math.inf], "b": [0.5], "c": [0.7]}, 3, 3, 4) == (1, ["c"])


@pytest.mark.parametrize(("count", "eta", "slots"), [(4, 3, 27), (3, 2, 3), (3, 3, 8)])
def test_batches_to_come_are_those_that_come_where_the_first_are_the_best(count: int, eta: int, slots: int) -> None:
    quality = [1 - number / 27 for number in range(27)]
    come = [(rung, [str(trial) for trial in trials]) for rung, trials in climb(quality, count, eta, slots)[0]]
    assert batches_to_come({str(number): [] for number in range(27)}, count, eta, slots) == come


def test_batches_to_come_go_on_from_what_is_known() -> None:
    known = {"a": [0.1], "b": [0.5], "c": [0.9], "d": []}
    assert batches_to_come(known, 3, 2, 4) == [(0, ["d"]), (1, ["c", "b"]), (2, ["c"])]
    assert known == {"a": [0.1], "b": [0.5], "c": [0.9], "d": []}


def test_what_is_left_of_an_interrupted_batch_is_given_again() -> None:
    scores = {"a": [0.1], "b": [], "c": [], "d": []}
    assert next_batch(scores, 2, 2, 2) == (0, ["b", "c"])
