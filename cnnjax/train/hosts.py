"""Many processes as one run, by `jax.distributed`: all compute, process 0 leads.

What depends on a clock, a signal or a file is the leader's to say: `agree` is how the others hear it. The words go
through the key-value store of JAX's coordination service, for processes that wait for one another in a collective wait
with their devices, and not for as long as a leader may write a report.

A process that has gone is missed by the others: each shows every second that it lives, and a thread of each looks.
"""

import ctypes
import itertools
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax._src import distributed  # the one way to the key-value store, which Orbax takes too
from jax.experimental import multihost_utils

from cnnjax.config import RequestError
from cnnjax.train.interruption import Interruption, leave

T = TypeVar("T")

_BEAT = 1.0  # seconds between two looks
_LOST = 20.0  # without a sign of life
_LEAVING = 300.0  # likewise, once a signal has come: the leader may still be writing a checkpoint
# Milliseconds that a process has to come to where another is.
_ANSWER = 60_000
_FOREVER = 10**11
_KEPT = 1000  # words of the leader: nobody is so far behind, for every dispatch waits for all

_numbers = itertools.count()


class Abandoned(Exception):
    """The leader is elsewhere.

    Attributes:
      subject, value: what it has said in the place of what was expected.
    """

    def __init__(self, subject: str, value: Any) -> None:
        super().__init__(f"process 0 has gone on to: {subject}")
        self.subject, self.value = subject, value


def several() -> bool:
    """Whether this is one of many processes."""
    return distributed.global_state.num_processes > 1


def leads() -> bool:
    """Whether this process decides and writes; so does one alone."""
    return distributed.global_state.process_id == 0


def join(coordinator: str, processes: int | None, process: int | None, interruption: Interruption) -> None:
    """Makes this process one of many; to be called before anything is computed.

    Args:
      coordinator: HOST:PORT of process 0, the same for all; `auto` where JAX finds out all three by itself (TPU pods,
        Slurm, Open MPI).
      processes: how many there are.
      process: which one this is, from 0.
      interruption: a signal to any process is a signal to all.

    Raises:
      RequestError: if there is nothing to find out, or the others do not come.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    address = None if coordinator == "auto" else coordinator
    _keep_the_noise(f"--coordinator={coordinator}: not all processes came together")
    try:
        jax.distributed.initialize(address, processes, process)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        if address is None:
            would_do = "give HOST:PORT, --processes and --process"
            raise RequestError(f"--coordinator=auto: no TPU pod, Slurm or Open MPI ({reason}); {would_do}") from None
        raise RequestError(f"--coordinator={coordinator}: the processes could not come together ({reason})") from None
    _peers.joined = True
    if not several():
        return
    if not leads():
        sys.stdout = os.fdopen(os.dup(1), "w")  # among the noise
    jax.devices()  # here all wait for all
    _peers.interruption = interruption
    interruption.announce = _announce_signal
    threading.Thread(target=_peers.watch, daemon=True).start()


def agree(subject: str, value: T, *, together: bool = False) -> T:
    """The leader's value, plain JSON, on every process. All ask for the same, in the same order.

    Args:
      subject: what it is about.
      value: the leader's is taken.
      together: whether the leader waits until all are here, as they must be when their devices first meet.

    Raises:
      Abandoned: if the leader has not come here, and is elsewhere.
    """
    if not several():
        return value
    if not leads():
        return _hear(subject, together=together)
    number = next(_numbers)
    for process in _others() if together else ():
        _store().blocking_key_value_get(f"{_word(number)}/{process}", _FOREVER)
    _store().key_value_set(_word(number), json.dumps([subject, value]))
    if number >= _KEPT:
        _store().key_value_delete(_word(number - _KEPT))
    return value


def _hear(subject: str, *, together: bool = False, milliseconds: int = _FOREVER) -> Any:
    number = next(_numbers)
    if together:
        _show(number)
    heard, value = json.loads(_store().blocking_key_value_get(_word(number), milliseconds))
    if heard != subject:
        raise Abandoned(heard, value)
    return value


def order(value: Any) -> None:
    """What the followers do next; returns once they all have heard it, wherever they were. For the leader."""
    if several():
        agree("order", value)
        number = next(_numbers)
        for process in _others():
            try:
                _store().blocking_key_value_get(f"{_word(number)}/{process}", _ANSWER)
            except RuntimeError:
                _peers.end(f"process {process} does not come to where process 0 is")


def next_order(*, at_once: bool = False) -> Any:
    """What the leader wants to be done next. For the others.

    Raises:
      RuntimeError: if it wants something else first, or is silent where it should answer at once.
    """
    try:
        return acknowledge(_hear("order", milliseconds=_ANSWER if at_once else _FOREVER))
    except Abandoned as elsewhere:
        raise RuntimeError(str(elsewhere)) from None


def acknowledge(value: T) -> T:
    """Tells the leader that an order was heard; returns the order."""
    _show(next(_numbers))
    return value


def from_leader(tree: Any) -> Any:
    """The leader's arrays on every process, on the host; the tree itself where one is alone.

    Args:
      tree: of the same shapes everywhere.
    """
    if not several():
        return tree
    agree("arrays", None, together=True)
    return multihost_utils.broadcast_one_to_all(jax.device_get(tree))


def part() -> None:
    """All processes leave one another, their work done."""
    if several():
        _peers.parted = True
        jax.distributed.shutdown()


def require_all() -> None:
    """Returns once every other process has shown that it lives. After an error, it may be that one does not: then this
    process ends."""
    if several():
        if _peers.interruption.requested:
            leave(_peers.interruption.signal)
        _peers.wait_for_beats()


def fail(reason: str) -> None:
    """Ends this process with a line, and tells the others why."""
    _set(f"left/{distributed.global_state.process_id}", reason)
    _end(f"process {distributed.global_state.process_id}: {reason}")


class _Peers:
    """What this process knows of the others."""

    def __init__(self) -> None:
        self.interruption = Interruption()
        self.joined = self.parted = False
        self._beats: dict[int, str] = {}
        self._seen: dict[int, float] = {}

    def watch(self) -> None:
        """Shows that this process lives and looks whether the others do, as long as they are together."""
        self._seen = dict.fromkeys(_others(), time.monotonic())
        for number in itertools.count():
            if self.parted:
                return
            try:
                _set(f"beat/{distributed.global_state.process_id}", str(number))
                self._look(dict(_store().key_value_dir_get("cnnjax/now/")))
            except RuntimeError:
                if not self.parted and not leads():
                    self.end("process 0 has ended")
            time.sleep(_BEAT)

    def _look(self, found: dict[str, str]) -> None:
        said = {key.removeprefix("cnnjax/now/"): value for key, value in found.items()}
        if "signal" in said and not self.interruption.requested:
            _set(f"heard/{distributed.global_state.process_id}", "")
            self.interruption.receive(int(said["signal"]), elsewhere=True)
        for process in _others():
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
            while any(self._beats.get(process) == before.get(process) for process in _others()):
                time.sleep(_BEAT / 10)

    def end(self, what: str) -> None:
        """Ends this process because of another."""
        if self.interruption.requested:
            leave(self.interruption.signal)
        _end(f"{what}; this process ends too, and the same command goes on from the last checkpoint")


_peers = _Peers()
_ending = threading.Lock()


def _end(line: str) -> None:
    _ending.acquire()  # and never let go: one line is enough
    print(line, file=sys.stderr, flush=True)
    os._exit(1)


def _announce_signal(number: int) -> None:
    """Tells the others of a signal. The store ends with the leader, who waits until they know."""
    try:
        _set("signal", str(int(number)))
        until = time.monotonic() + 5 * _BEAT
        while leads() and time.monotonic() < until:
            heard = dict(_store().key_value_dir_get("cnnjax/now/heard/"))
            if len(heard) == len(_others()):
                return
            time.sleep(_BEAT / 10)
    except RuntimeError:
        pass  # those that cannot hear it will miss this process


def _keep_the_noise(unjoined: str) -> None:
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
            if not _peers.joined:
                _end(unjoined)
            _peers.end("another process has ended" if leads() else "process 0 has ended")
        _peers.end_if_silent(5 * _BEAT)  # XLA gives up when a collective lasts
        _end(said)

    _kept_alive.append(ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted))
    ctypes.CDLL(None).signal(signal.SIGABRT, _kept_alive[-1])


_kept_alive: list[Callable[[int], None]] = []


def _store() -> Any:
    return distributed.global_state.client


def _set(name: str, value: str) -> None:
    _store().key_value_set(f"cnnjax/now/{name}", value, allow_overwrite=True)


def _show(number: int) -> None:
    """That this process has come to where this word of the leader's is heard."""
    _store().key_value_set(f"{_word(number)}/{distributed.global_state.process_id}", "here")


def _word(number: int) -> str:
    return f"cnnjax/said/{number}"


def _others() -> list[int]:
    state = distributed.global_state
    return [process for process in range(state.num_processes) if process != state.process_id]
