"""What a signal does, without sending one."""

import io
import signal
import sys
import time
from collections.abc import Callable

import pytest

from cnnjax.train import interruption as module
from cnnjax.train.interruption import Interruption, Stopped, leave, run_interruptibly

Handlers = dict[int, Callable[[int, object], None]]


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses with which the process would have ended."""
    statuses: list[int] = []

    def end(status: int) -> None:
        statuses.append(status)
        raise SystemExit

    monkeypatch.setattr(module.os, "_exit", end)
    return statuses


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Handlers:
    """What `run_interruptibly` would do with signals."""
    installed: Handlers = {}
    monkeypatch.setattr(module.signal, "signal", installed.__setitem__)
    return installed


def test_first_signal_asks_the_work_to_stop(left: list[int]) -> None:
    interruption = Interruption()
    assert not interruption.requested
    interruption.check()
    interruption.receive(signal.SIGTERM)
    assert interruption.requested
    assert left == []
    with pytest.raises(Stopped):
        interruption.check()


def test_second_signal_does_not_wait(left: list[int]) -> None:
    interruption = Interruption()
    interruption.receive(signal.SIGTERM)
    with pytest.raises(SystemExit):
        interruption.receive(signal.SIGINT)
    assert left == [130]


def test_signal_with_nothing_to_save_leaves_at_once(left: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    interruption = Interruption()
    with pytest.raises(SystemExit), interruption.nothing_to_save():
        interruption.receive(signal.SIGTERM)
    assert left == [143]
    assert "stopped by SIGTERM" in capsys.readouterr().err


def test_nothing_to_save_ends_with_its_block(left: list[int]) -> None:
    interruption = Interruption()
    with interruption.nothing_to_save():
        pass
    with pytest.raises(ZeroDivisionError), interruption.nothing_to_save():
        raise ZeroDivisionError
    interruption.receive(signal.SIGTERM)
    assert left == []


def test_nothing_to_save_does_not_begin_after_a_signal() -> None:
    interruption = Interruption()
    interruption.receive(signal.SIGTERM)
    began = False
    with pytest.raises(Stopped), interruption.nothing_to_save():
        began = True
    assert not began


def test_stopped_is_not_caught_by_mistake() -> None:
    assert not issubclass(Stopped, Exception)  # the runner marks a run failed for any Exception


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_leave_has_the_status_that_shells_give(left: list[int], number: int, status: int) -> None:
    with pytest.raises(SystemExit):
        leave(number)
    assert left == [status]


@pytest.mark.parametrize("terminal", [False, True])
def test_leaving_gives_a_terminal_its_cursor_back(
    left: list[int], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "__stdout__", screen)
    with pytest.raises(SystemExit):
        leave(signal.SIGINT)
    assert screen.getvalue().endswith("\x1b[?25h") == terminal
    assert bool(screen.getvalue()) == terminal


def test_work_that_ends_gives_its_status(handlers: Handlers, left: list[int]) -> None:
    assert run_interruptibly(lambda interruption: 7) == 7
    assert set(handlers) == {signal.SIGTERM, signal.SIGINT}
    assert left == []


def test_error_of_the_work_is_raised(handlers: Handlers) -> None:
    def fail(interruption: Interruption) -> int:
        raise ZeroDivisionError("of the work")

    with pytest.raises(ZeroDivisionError, match="of the work"):
        run_interruptibly(fail)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_work_leaves_with_the_status_of_the_signal(
    handlers: Handlers, left: list[int], number: int, status: int
) -> None:
    saved = []

    def work(interruption: Interruption) -> int:
        handlers[number](number, None)
        while not interruption.requested:
            time.sleep(0.001)
        saved.append(True)
        interruption.check()
        return 0

    with pytest.raises(SystemExit):
        run_interruptibly(work)
    assert saved == [True]
    assert left == [status]


def test_work_that_ends_in_spite_of_a_signal_gives_its_status(handlers: Handlers, left: list[int]) -> None:
    def work(interruption: Interruption) -> int:
        handlers[signal.SIGTERM](signal.SIGTERM, None)
        while not interruption.requested:
            time.sleep(0.001)
        return 1

    assert run_interruptibly(work) == 1
    assert left == []
