"""The loop: when it evaluates, saves and stops, and that going on ends where an untouched run does."""

import dataclasses
import signal
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from cnnjax.filters.plan import Flat
from cnnjax.train.assembly import Assembly
from cnnjax.train.devices import replicate
from cnnjax.train.interruption import Interruption, Stopped
from cnnjax.train.loop import Listeners, Pace, Plan, boundaries, fit
from cnnjax.train.program import Program, Report
from cnnjax.train.state import TrainState

Diary = dict[str, list[Any]]


def blank() -> Diary:
    """What a run tells its listeners: reports and saves by step, and both in order."""
    return {"evaluated": [], "reports": [], "diverged": [], "saves": [], "events": []}


def listeners(diary: Diary, on_progress: Callable[[int, float], None]) -> Listeners:
    """Listeners that write into a diary."""

    def on_report(_: int, step: int, report: Report) -> None:
        sums = {"train": report.train.metrics(), "validation": report.validation.metrics()}
        diary["reports"].append((step, {**sums, "best_step": int(report.best_step)}))
        diary["events"].append(("report", step))

    def on_diverged(_: int, reason: str) -> None:
        diary["diverged"].append(reason)

    def on_save(_: int, step: int, state: TrainState) -> None:
        diary["saves"].append((step, host(state)))
        diary["events"].append(("save", step))

    def on_evaluated(_: int, step: int, params: Flat, stats: Flat) -> None:
        diary["evaluated"].append((step, host(params)))

    return Listeners(
        on_evaluated, on_report, on_diverged, on_save, lambda steps, seconds: on_progress(steps[0], seconds)
    )


def host(tree: Any) -> Any:
    """A copy of the arrays in NumPy."""
    return jax.tree.map(np.array, jax.device_get(tree))


def assert_identical(left: Any, right: Any) -> None:
    """Bit for bit."""
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.tobytes() == b.tobytes()


def run(
    linear: Assembly,
    diary: Diary,
    *,
    state: TrainState | None = None,
    program: Program | None = None,
    plan: Plan | None = None,
    interruption: Interruption | None = None,
    on_progress: Callable[[int, float], None] = lambda step, seconds: None,
) -> TrainState:
    """`fit` from a state to the end."""
    state = host(linear.state) if state is None else state
    step = int(state.step)
    plan, interruption = plan or linear.plans[0], interruption or Interruption()
    program, told = program or linear.program, listeners(diary, on_progress)
    return host(fit(program, replicate(state), [step], linear.inputs, [plan], told, interruption))


@pytest.fixture(scope="module")
def untouched(linear: Assembly) -> tuple[TrainState, Diary]:
    """A run from the first step to the last."""
    diary = blank()
    return run(linear, diary), diary


@pytest.mark.parametrize(
    ("steps", "steps_per_epoch", "eval_every", "expected"),
    [
        (30, 10, 1, (10, 20, 30)),
        (25, 10, 1, (10, 20, 25)),
        (25, 10, 0.5, (5, 10, 15, 20, 25)),
        (10, 4, 0.4, (2, 3, 5, 6, 8, 10)),
        (5, 10, 1, (5,)),
        (30, 10, 100, (30,)),
        (4, 2, 0.1, (1, 2, 3, 4)),
        (1, 1, 1, (1,)),
        (3, 1000, 1e-300, (1, 2, 3)),
    ],
)
def test_boundaries(steps: int, steps_per_epoch: int, eval_every: float, expected: tuple[int, ...]) -> None:
    assert boundaries(steps, steps_per_epoch, eval_every) == expected


@pytest.mark.parametrize("eval_every", [0.07, 0.33, 1.0, 1.7, 3.0])
def test_boundaries_ascend_to_the_last_step(eval_every: float) -> None:
    found = boundaries(53, 6, eval_every)
    assert found[-1] == 53
    assert all(a < b for a, b in zip((0, *found), found, strict=False))
    for i, step in enumerate(found[:-1], 1):
        if eval_every * 6 >= 1:
            assert abs(step - i * eval_every * 6) <= 0.5


def test_pace_doubles_at_most_and_keeps_to_a_quarter_of_a_second() -> None:
    pace = Pace()
    seen = []
    for _ in range(12):
        pace.learn(pace.pieces, pace.pieces * 0.001)  # a millisecond each
        seen.append(pace.pieces)
    assert seen == [2, 4, 8, 16, 32, 64, 128, 250, 250, 250, 250, 250]
    pace.learn(250, 250.0)
    assert pace.pieces == 1
    pace.learn(1, 0.0)
    assert pace.pieces == 2


def test_evaluates_at_the_boundaries_and_saves_at_the_end(untouched: tuple[TrainState, Diary]) -> None:
    state, diary = untouched
    assert diary["events"] == [("report", 6), ("report", 12), ("report", 13), ("save", 13)]
    assert int(state.step) == 13
    assert_identical(diary["saves"][-1][1], state)


def test_variables_are_shown_at_each_evaluation(linear: Assembly, untouched: tuple[TrainState, Diary]) -> None:
    state, diary = untouched
    assert [step for step, _ in diary["evaluated"]] == [6, 12, 13]
    assert_identical(diary["evaluated"][-1][1], state.trained)
    half = run(linear, blank(), plan=dataclasses.replace(linear.plans[0], steps=6, stop=6, boundaries=(6,)))
    assert_identical(diary["evaluated"][0][1], half.trained)


def test_reports_the_best_evaluation(untouched: tuple[TrainState, Diary]) -> None:
    state, diary = untouched
    scores = {step: report["validation"]["accuracy"] for step, report in diary["reports"]}
    first_best = max(scores, key=lambda step: (scores[step], -step))
    assert int(state.best.step) == first_best
    assert int(state.best.correct) == round(21 * scores[first_best])
    assert diary["reports"][-1][1]["best_step"] == first_best


def test_saves_after_every_dispatch_when_asked_to(linear: Assembly, untouched: tuple[TrainState, Diary]) -> None:
    diary = blank()
    state = run(linear, diary, plan=dataclasses.replace(linear.plans[0], save_every=0.0))
    assert_identical(state, untouched[0])
    assert diary["reports"] == untouched[1]["reports"]
    steps = [step for step, _ in diary["saves"]]
    assert steps == sorted(set(steps))
    assert set(linear.plans[0].boundaries) <= set(steps)
    for boundary in linear.plans[0].boundaries:
        # What is saved at a boundary has been reported before, and so a killed run reports nothing twice.
        assert diary["events"].index(("report", boundary)) < diary["events"].index(("save", boundary))
        assert int(dict(diary["saves"])[boundary].sums.examples) == 0
    for step, saved in diary["saves"]:
        assert int(saved.step) == step


def test_goes_on_from_every_saved_state(linear: Assembly, untouched: tuple[TrainState, Diary]) -> None:
    diary = blank()
    run(linear, diary, plan=dataclasses.replace(linear.plans[0], save_every=0.0))
    for step, saved in diary["saves"]:
        again = blank()
        assert_identical(run(linear, again, state=saved), untouched[0])
        assert again["reports"] == [report for report in untouched[1]["reports"] if report[0] > step]


def test_stopped_after_every_dispatch_ends_the_same(linear: Assembly, untouched: tuple[TrainState, Diary]) -> None:
    diary, state, stops = blank(), host(linear.state), []
    for _ in range(100):
        interruption = Interruption()
        try:
            ended = run(
                linear,
                diary,
                state=state,
                interruption=interruption,
                on_progress=lambda step, seconds, i=interruption: i.receive(signal.SIGTERM),
            )
            break
        except Stopped:
            step, state = diary["saves"][-1]
            assert int(state.step) == step
            stops.append(step)
    # The last step's evaluation is left as well, and a run's pace begins at one step.
    assert stops == list(range(1, 14))
    assert_identical(ended, untouched[0])
    assert diary["reports"] == untouched[1]["reports"]


@pytest.mark.parametrize("where", ["evaluate", "settle"])
@pytest.mark.parametrize("boundary", [1, 2, 3])
def test_stopped_at_an_evaluation_ends_the_same(
    linear: Assembly, untouched: tuple[TrainState, Diary], where: str, boundary: int
) -> None:
    diary, interruption = blank(), Interruption()
    at = linear.plans[0].boundaries[boundary - 1]

    def stop_behind(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            result = function(*arguments)
            if reached[-1] == at and not interruption.requested:
                interruption.receive(signal.SIGTERM)
            return result

        return call

    reached = [0]
    program = dataclasses.replace(linear.program, **{where: stop_behind(getattr(linear.program, where))})
    arguments = {"program": program, "interruption": interruption}
    if (where, boundary) == ("settle", 3):  # nothing is left to do
        state = run(linear, diary, on_progress=lambda step, seconds: reached.append(step), **arguments)
    else:
        with pytest.raises(Stopped):
            run(linear, diary, on_progress=lambda step, seconds: reached.append(step), **arguments)
        step, saved = diary["saves"][-1]
        assert step == at
        assert (int(saved.sums.examples) > 0) == (where == "evaluate")
        state = run(linear, diary, state=saved)
    assert_identical(state, untouched[0])
    assert diary["reports"] == untouched[1]["reports"]


def test_finished_run_trains_and_reports_nothing_more(linear: Assembly, untouched: tuple[TrainState, Diary]) -> None:
    diary = blank()
    assert_identical(run(linear, diary, state=untouched[0]), untouched[0])
    assert diary["events"] == [("save", 13)]


def test_progress_counts_up_to_the_end(linear: Assembly) -> None:
    told: list[tuple[int, float]] = []
    run(linear, blank(), on_progress=lambda step, seconds: told.append((step, seconds)))
    steps = [step for step, _ in told]
    assert steps[0] == 1
    assert steps[-1] == 13
    assert steps == sorted(set(steps))
    assert all(seconds > 0 for _, seconds in told)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_loss_that_is_not_finite_ends_the_run_unsaved(linear: Assembly, value: float) -> None:
    state, diary = host(linear.state), blank()
    state.trained["head/kernel"][0, 0] = value
    run(linear, diary, state=state)
    assert diary["diverged"] == [f"the loss was {np.nan} in training and {np.nan} in validation at step 6"]
    assert diary["events"] == [("report", 6)]
