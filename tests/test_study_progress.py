"""How far a study is and how long it will take, by a clock of the test's own."""

import io
from collections.abc import Callable

import pytest
from etils import epath
from rich.console import Console

from cnnjax.study.progress import StudyProgress
from cnnjax.study.workdir import Unit

UNITS = [Unit(arm, seed, epath.Path("nowhere")) for seed in (0, 1) for arm in ("fast", "slow")]


@pytest.fixture
def clock() -> Callable[..., float]:
    """The time in seconds; called with a number, it goes on by so much."""
    now = [1000.0]

    def read(forward: float = 0.0) -> float:
        now[0] += forward
        return now[0]

    return read


def plain(clock: Callable[[], float], units: list[Unit] = UNITS) -> tuple[StudyProgress, io.StringIO]:
    text = io.StringIO()
    return StudyProgress(Console(file=text, width=200), units, clock), text


def test_time_left_is_unknown_at_first(clock: Callable[..., float]) -> None:
    progress, _ = plain(clock)
    assert progress.seconds_left() is None
    progress.begin(UNITS[0])
    clock(3)
    assert progress.seconds_left() is None


def test_time_left_of_the_first_run_is_that_of_all(clock: Callable[..., float]) -> None:
    progress, _ = plain(clock)
    run = progress.begin(UNITS[0])
    clock(10)
    run.advance(0.1)
    assert progress.seconds_left() is None  # it has compiled, and its pace is not known
    clock(6)
    run.advance(0.25)
    # The steps last 40 s: 30 s are left of this run; each of the three to come compiles for 6 s as well.
    assert progress.seconds_left() == pytest.approx(30 + 3 * 46)


def test_time_left_counts_the_runs_that_come_later(clock: Callable[..., float]) -> None:
    progress = StudyProgress(Console(file=io.StringIO()), UNITS[:2], clock, later=3.5)
    run = progress.begin(UNITS[0])
    clock(10)
    run.end("finished")
    assert progress.seconds_left() == pytest.approx((1 + 3.5) * 10)


def test_time_left_takes_each_run_to_last_as_its_arm_did(clock: Callable[..., float]) -> None:
    progress, _ = plain(clock)
    run = progress.begin(UNITS[0])
    clock(10)
    run.end("finished")
    assert progress.seconds_left() == pytest.approx(3 * 10)
    run = progress.begin(UNITS[1])
    clock(50)
    run.end("finished")
    assert progress.seconds_left() == pytest.approx(10 + 50)
    run = progress.begin(UNITS[2])
    clock(4)
    assert progress.seconds_left() == pytest.approx((10 - 4) + 50)
    run.advance(0.2)
    assert progress.seconds_left() == pytest.approx((10 - 4) + 50)
    clock(4)
    run.advance(0.4)  # 4 s for a fifth: it is slower than the one before
    assert progress.seconds_left() == pytest.approx(12 + 50)
    clock(12)
    run.end("finished")
    run = progress.begin(UNITS[3])
    clock(60)
    assert progress.seconds_left() == 0  # longer than the one before, and nothing is known of its share
    run.end("finished")
    assert progress.seconds_left() == 0


def test_line_for_each_run_that_ends(clock: Callable[..., float]) -> None:
    progress, text = plain(clock)
    with progress:
        run = progress.begin(UNITS[0])
        clock(10)
        run.end("finished")
        run = progress.begin(UNITS[1])
        clock(150.25)
        run.end("failed ([red] ValueError)")
    assert text.getvalue().splitlines() == [
        "fast seed 0: finished in 10.0 s; 30 s left",
        "slow seed 0: failed ([red] ValueError) in 150.2 s; 3 min left",
    ]


def test_line_now_and_then_while_a_run_lasts(clock: Callable[..., float]) -> None:
    progress, text = plain(clock, UNITS[:1])
    run = progress.begin(UNITS[0])
    for percent in range(1, 101):
        clock(1)
        run.advance(percent / 100)
    lines = text.getvalue().splitlines()
    assert lines[0] == "fast seed 0: 15%; 85 s left"
    assert lines[-1] == "fast seed 0: 90%; 10 s left"
    assert len(lines) == 6


def test_line_now_and_then_while_a_run_is_prepared(clock: Callable[..., float]) -> None:
    progress, text = plain(clock)
    run = progress.begin(UNITS[0])
    for percent in range(0, 101, 25):
        clock(5)
        run.prepare("fitting stage1", percent / 100)
    assert text.getvalue().splitlines() == ["fast seed 0: fitting stage1 50%; time left unknown"]
    clock(10)
    run.advance(0.0)
    clock(10)
    run.advance(0.5)
    # Preparation is no part of the pace, but the runs to come have theirs.
    assert progress.seconds_left() == pytest.approx(10 + 3 * (45 + 10))


def test_runs_at_once_share_the_time_left(clock: Callable[..., float]) -> None:
    progress, text = plain(clock)
    first, second = progress.begin(UNITS[0]), progress.begin(UNITS[1])
    clock(10)
    first.end("finished")
    # 10 s for each that waits, and none are known to be left of the second.
    assert progress.seconds_left() == pytest.approx(2 * 10)
    third = progress.begin(UNITS[2])
    second.advance(0.5)
    clock(5)
    second.advance(0.75)
    # 5 s are left of the second and of the third, 10 of the one that waits; two are done at once.
    assert progress.seconds_left() == pytest.approx((5 + 5 + 10) / 2)
    clock(10)
    third.advance(0.5)
    assert text.getvalue().splitlines()[1:] == ["slow seed 0: 75%, fast seed 1: 50%; 12 s left"]


def test_terminal_has_one_live_line(clock: Callable[..., float]) -> None:
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=True, _environ={})
    with StudyProgress(console, UNITS[:1], clock) as progress:
        run = progress.begin(UNITS[0])
        clock(100)
        run.advance(0.5)
        assert "50%; " not in text.getvalue()  # no plain line
        run.end("finished")
    written = text.getvalue()
    assert "fast seed 0: finished in 100.0 s" in written
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1  # the cursor hides and comes back
