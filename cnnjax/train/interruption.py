"""Leaving at once, and cleanly, when asked to by SIGTERM or Ctrl-C."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_DONE = b"\0"


class Stopped(BaseException):
    """The work has saved what it had and ends because a signal asked for it."""


class Interruption:
    """Whether a signal has come, for work that runs beside the main thread.

    Python runs signal handlers in the main thread alone, and not while that thread is inside the compiler. So the work
    has a thread of its own: it looks at `requested` between dispatches, and marks with `nothing_to_save` what may take
    long and can be left at any instant.

    Attributes:
      signal: the number of the one that has come; 0 for none.
      announce: called with the first one that comes to this process, before anything else is done about it.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.announce: Callable[[int], None] = lambda number: None
        self._received = False
        self._leave = threading.Lock()
        self._nothing_to_save = False

    @property
    def requested(self) -> bool:
        """Whether the work should save and stop."""
        return self.signal != 0

    def check(self) -> None:
        """Raises `Stopped` if a signal has come; for places where nothing is left to save."""
        if self.requested:
            raise Stopped

    @contextlib.contextmanager
    def nothing_to_save(self) -> Iterator[None]:
        """While this lasts, a signal ends the process at once."""
        self._mark(True)
        try:
            self.check()  # of a signal that came before; the next one finds the mark
            yield
        finally:
            self._mark(False)
        self.check()

    def _mark(self, value: bool) -> None:
        with self._leave:
            self._nothing_to_save = value

    def receive(self, number: int, *, elsewhere: bool = False) -> None:
        """What is done about a signal. A second one does not wait for the work to save.

        Args:
          number: of the signal.
          elsewhere: whether it has come to another process than this one.
        """
        again = self._received and not elsewhere
        if not elsewhere:
            if not self._received:
                self.announce(number)
            self._received = True
        self.signal = number
        with self._leave:
            if self._nothing_to_save or again:
                leave(number)


def leave(number: int) -> None:
    """Ends the process now, with the exit status that shells give a process stopped by this signal."""
    if sys.__stdout__ is not None and sys.__stdout__.isatty():
        # A live line may be there, which nobody will take away: clear it, and show the cursor again.
        print("\r\x1b[2K\x1b[?25h", end="", file=sys.__stdout__, flush=True)
    print(
        f"stopped by {signal.Signals(number).name}; the same command goes on from here",
        file=sys.stderr,
        flush=True,
    )
    sys.stdout.flush()
    os._exit(128 + number)


def run_interruptibly(work: Callable[[Interruption], int]) -> int:
    """Runs `work` in a thread while the main thread waits for signals; returns its exit status.

    A `Stopped` that the work raises, or a signal while it has nothing to save, ends the process with status 128 + the
    signal's number (143 for SIGTERM, 130 for Ctrl-C). Any other exception of the work is raised here.
    """
    interruption = Interruption()
    outcome: list[int | BaseException] = []
    # The kernel may give a signal to any thread, and then the main one sleeps on. Whichever gets it writes it here.
    arriving, arrived = socket.socketpair()
    arriving.setblocking(False)

    def body() -> None:
        try:
            outcome.append(work(interruption))
        except BaseException as error:
            outcome.append(error)
        arriving.send(_DONE)

    def leave_it_to_the_main_thread(number: int, frame: object) -> None:
        """Without a handler of Python's own nothing would be written."""

    with arriving, arrived:
        woken_before = signal.set_wakeup_fd(arriving.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, leave_it_to_the_main_thread) for number in _SIGNALS}
        threading.Thread(target=body, daemon=True).start()
        try:
            _receive_until_done(arrived, interruption)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(woken_before)
    result = outcome[0]
    if isinstance(result, Stopped):
        leave(interruption.signal)
    if isinstance(result, BaseException):
        raise result
    return result


def _receive_until_done(arrived: socket.socket, interruption: Interruption) -> None:
    while True:
        for number in arrived.recv(64):
            if bytes([number]) == _DONE:
                return
            if number in _SIGNALS:
                interruption.receive(number)
