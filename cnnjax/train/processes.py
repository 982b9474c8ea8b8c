"""The processes of a run on many hosts: which one this is, and whether the others live.

Each shows every second that it does, and a thread of each looks. Where one has gone, the others end with a line that
says so.
"""

import ctypes
import itertools
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from jax._src import distributed  # the one way to the key-value store, which Orbax takes too

from cnnjax.train.interruption import Interruption, leave

_BEAT = 1.0  # seconds between two looks
_LOST = 20.0  # without a sign of life
_LEAVING = 300.0  # likewise, once a signal has come: the leader may still be writing a checkpoint


def several() -> bool:
    """Whether this is one of many processes."""
    return distributed.global_state.num_processes > 1


def leads() -> bool:
    """Whether this process decides and writes; so does one alone."""
    return distributed.global_state.process_id == 0


def store() -> Any:
    """The key-value store of JAX's coordination service, which ends with process 0."""
    return distributed.global_state.client


def say(name: str, value: str) -> None:
    """What this process says of itself now, in the place of what it said before."""
    store().key_value_set(f"cnnjax/now/{name}", value, allow_overwrite=True)


def others() -> list[int]:
    """The numbers of the other processes."""
    state = distributed.global_state
    return [process for process in range(state.num_processes) if process != state.process_id]


class Peers:
    """What this process knows of the others."""

    def __init__(self) -> None:
        self.interruption = Interruption()
        self.joined = self.parted = False
        self._beats: dict[int, str] = {}
        self._seen: dict[int, float] = {}

    def watch(self) -> None:
        """Shows that this process lives and looks whether the others do, as long as they are together."""
        self._seen = dict.fromkeys(others(), time.monotonic())
        for number in itertools.count():
            if self.parted:
                return
            try:
                say(f"beat/{distributed.global_state.process_id}", str(number))
                self._look(dict(store().key_value_dir_get("cnnjax/now/")))
            except RuntimeError:
                if not self.parted and not leads():
                    self.end("process 0 has ended")
            time.sleep(_BEAT)

    def _look(self, found: dict[str, str]) -> None:
        said = {key.removeprefix("cnnjax/now/"): value for key, value in found.items()}
        if "signal" in said and not self.interruption.requested:
            say(f"heard/{distributed.global_state.process_id}", "")
            self.interruption.receive(int(said["signal"]), elsewhere=True)
        for process in others():
            if reason := said.get(f"left/{process}"):
                self.end(f"process {process} has ended ({reason})")
            if (beat := said.get(f"beat/{process}", "")) != self._beats.get(process, ""):
                self._beats[process], self._seen[process] = beat, time.monotonic()
        self.end_if_silent(_LEAVING if self.interruption.requested else _LOST)

    def end_if_silent(self, seconds: float) -> None:
        """Ends this process if another has not shown so long that it lives."""
        for process, seen in self._seen.items():
            if time.monotonic() - seen > seconds:
                self.end(f"process {process} has ended, or does not answer")

    def wait_for_beats(self) -> None:
        """Until each other process has given two signs of life: the first may have been on its way."""
        for _ in range(2):
            before = dict(self._beats)
            while any(self._beats.get(process) == before.get(process) for process in others()):
                time.sleep(_BEAT / 10)

    def end(self, what: str) -> None:
        """Ends this process because of another."""
        if self.interruption.requested:
            leave(self.interruption.signal)
        end_process(f"{what}; this process ends too, and the same command goes on from the last checkpoint")


peers = Peers()
"""Of this process."""

_ending = threading.Lock()


def end_process(line: str) -> None:
    """Ends this process with a line and status 1, whatever its threads do."""
    _ending.acquire()  # and never let go: one line is enough
    print(line, file=sys.stderr, flush=True)
    os._exit(1)


def announce_signal(number: int) -> None:
    """Tells the others of a signal. The store ends with the leader, who waits until they know."""
    try:
        say("signal", str(int(number)))
        until = time.monotonic() + 5 * _BEAT
        while leads() and time.monotonic() < until:
            heard = dict(store().key_value_dir_get("cnnjax/now/heard/"))
            if len(heard) == len(others()):
                return
            time.sleep(_BEAT / 10)
    except RuntimeError:
        pass  # those that cannot hear it will miss this process


def keep_the_noise(unjoined: str) -> None:
    """What is not written by Python, such as the logs of JAX's C++, is shown only if this process is aborted.

    When a process does not come, or the leader dies, JAX's own client aborts the others with a page of it; they end
    with a line instead.

    Args:
      unjoined: the line, if they have not come together.
    """
    errors, sys.stdout = (os.fdopen(os.dup(number), "w", buffering=1) for number in (2, 1))
    sys.stderr = errors
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(errors)
    noise = tempfile.TemporaryFile()  # noqa: SIM115 open as long as this process
    os.dup2(noise.fileno(), 1)
    os.dup2(noise.fileno(), 2)

    def aborted(number: int) -> None:
        noise.seek(0)
        said = noise.read().decode(errors="replace")
        if "JAX distributed service detected fatal errors" in said:
            if not peers.joined:
                end_process(unjoined)
            peers.end("another process has ended" if leads() else "process 0 has ended")
        peers.end_if_silent(5 * _BEAT)  # XLA gives up when a collective lasts
        end_process(said)

    _kept_alive.append(ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted))
    ctypes.CDLL(None).signal(signal.SIGABRT, _kept_alive[-1])


_kept_alive: list[Callable[[int], None]] = []
