"""Successive halving on the rungs of ASHA (Li et al. 2020, A system for massively parallel hyperparameter tuning).

All trials begin; of those that reach a rung the best go on to the next, which is `eta` times as far, and the others
stop there. A rung's trials are trained together, as many as there are slots: a slot whose trial has stopped takes the
next trial that waits, and a rung is climbed as soon as its best fill the slots, or nothing waits any more.
"""

import math
from collections.abc import Mapping, Sequence

_DIGITS = 9

Scores = Mapping[str, Sequence[float]]
"""Of each trial by name, its score at every rung that it has reached; -inf where it failed on the way there."""


def rungs(epochs: float, least: float, eta: int) -> tuple[float, ...]:
    """The epochs of each rung: `least`, each next one `eta` times as far, and the last in the place of one that would
    be less than that below the end."""
    below = []
    # Rounded: 0.1 three times over is more than 0.3.
    while (next_one := round(least * eta, _DIGITS)) <= epochs:
        below.append(least)
        least = next_one
    return (*below, epochs)


def next_batch(scores: Scores, count: int, eta: int, slots: int) -> tuple[int, list[str]] | None:
    """What is to be trained next: a rung, and the trials that are to reach it together; None where all is done.

    Args:
      scores: of all trials, in the order in which they begin.
      count: of rungs.
      eta: one of so many goes on.
      slots: how many trials are trained together.
    """
    waiting = [trial for trial, reached in scores.items() if not reached]
    for rung in reversed(range(1, count)):
        best = _promoted(scores, rung, eta)
        if len(best) >= slots or (best and not waiting):
            return rung, best[:slots]
    if waiting:
        return 0, waiting[:slots]
    # With fewer than `eta` on a rung, none is among the best of so many: the best goes on all the same.
    for rung in reversed(range(count)):
        best = [trial for trial in _standing(scores, rung) if len(scores[trial]) == rung + 1]
        if best:
            return None if rung == count - 1 else (rung + 1, best[:1])
    return None


def batches_to_come(scores: Scores, count: int, eta: int, slots: int) -> list[tuple[int, list[str]]]:
    """What `next_batch` will give, one after another, if each trial scores what it scored last, and those that have not
    begun alike; arguments as there."""
    known = {trial: list(reached) for trial, reached in scores.items()}
    batches = []
    while batch := next_batch(known, count, eta, slots):
        batches.append(batch)
        for trial in batch[1]:
            known[trial].append(known[trial][-1] if known[trial] else 0.0)
    return batches


def _promoted(scores: Scores, rung: int, eta: int) -> list[str]:
    """Those that may go on to a rung and have not: the best of those below it that have not failed, best first."""
    below = [trial for trial, reached in scores.items() if len(reached) >= rung]
    best = _standing(scores, rung - 1)[: len(below) // eta]
    return [trial for trial in best if len(scores[trial]) == rung]


def _standing(scores: Scores, rung: int) -> list[str]:
    """The trials that reached a rung, the best there first, equal ones in order; without those that failed."""
    reached = [trial for trial, found in scores.items() if len(found) > rung and found[rung] > -math.inf]
    return sorted(reached, key=lambda trial: -scores[trial][rung])
