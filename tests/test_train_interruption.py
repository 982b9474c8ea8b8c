"""What a signal does, without sending one."""

import io
import signal
import sys
import threading
import time

import pytest

from cnnjax.train import interruption as module
from cnnjax.train.interruption import Interruption, Stopped, leave, run_interruptibly


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses with which the process would have ended."""
    statuses: list[int] = []

    def end(status: int) -> None:
        statuses.append(status)
        raise SystemExit

    monkeypatch.setattr(module.os, "_exit", end)
    return statuses


def send_to_this_thread(number: int) -> None:
    """The kernel may choose any thread for a signal to a process; here it is not the main one."""
    assert threading.current_thread() is not threading.main_thread()
    time.sleep(0.2)  # until the main thread waits
    signal.pthread_kill(threading.get_ident(), number)


def wait_for_it(interruption: Interruption) -> None:
    for _ in range(5000):
        if interruption.requested:
            return
        time.sleep(0.001)
    pytest.fail("the main thread did not learn of the signal")


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


def test_work_that_ends_gives_its_status_and_signals_are_as_before(left: list[int]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert run_interruptibly(lambda interruption: 7) == 7
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert left == []


def test_error_of_the_work_is_raised() -> None:
    def fail(interruption: Interruption) -> int:
        raise ZeroDivisionError("of the work")

    with pytest.raises(ZeroDivisionError, match="of the work"):
        run_interruptibly(fail)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_work_leaves_with_the_status_of_the_signal(left: list[int], number: int, status: int) -> None:
    saved = []

    def work(interruption: Interruption) -> int:
        send_to_this_thread(number)
        wait_for_it(interruption)
        saved.append(True)
        interruption.check()
        return 0

    with pytest.raises(SystemExit):
        run_interruptibly(work)
    assert saved == [True]
    assert left == [status]


def test_work_that_ends_in_spite_of_a_signal_gives_its_status(left: list[int]) -> None:
    def work(interruption: Interruption) -> int:
        send_to_this_thread(signal.SIGTERM)
        wait_for_it(interruption)
        return 1

    assert run_interruptibly(work) == 1
    assert left == []


def test_signal_to_another_process_is_no_second_one(left: list[int]) -> None:
    """Slurm sends one to each process: what others tell of it does not keep this one from saving."""
    told: list[int] = []
    ours = Interruption()
    ours.announce = told.append
    ours.receive(signal.SIGTERM, elsewhere=True)
    assert (ours.requested, told, left) == (True, [], [])
    ours.receive(signal.SIGTERM)
    assert (told, left) == ([signal.SIGTERM], [])
    with pytest.raises(SystemExit):
        ours.receive(signal.SIGTERM)
    assert (told, left) == ([signal.SIGTERM], [128 + signal.SIGTERM])
