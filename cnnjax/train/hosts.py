"""Many processes as one run, by `jax.distributed`: all compute, process 0 leads.

What depends on a clock, a signal or a file is the leader's to say: `agree` is how the others hear it. The words go
through the key-value store of JAX's coordination service, for processes that wait for one another in a collective wait
with their devices, and not for as long as a leader may write a report.
"""

import itertools
import json
import os
import sys
import threading
from typing import Any, TypeVar

import jax
from jax._src import distributed  # the one way to the key-value store, which Orbax takes too
from jax.experimental import multihost_utils

from cnnjax.config import RequestError
from cnnjax.train.interruption import Interruption, leave
from cnnjax.train.processes import (
    announce_signal,
    end_process,
    keep_the_noise,
    leads,
    others,
    peers,
    say,
    several,
    store,
)

T = TypeVar("T")

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
    keep_the_noise(f"--coordinator={coordinator}: not all processes came together")
    try:
        jax.distributed.initialize(address, processes, process)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        if address is None:
            would_do = "give HOST:PORT, --processes and --process"
            raise RequestError(f"--coordinator=auto: no TPU pod, Slurm or Open MPI ({reason}); {would_do}") from None
        raise RequestError(f"--coordinator={coordinator}: the processes could not come together ({reason})") from None
    peers.joined = True
    if not several():
        return
    if not leads():
        sys.stdout = os.fdopen(os.dup(1), "w")  # among the noise
    jax.devices()  # here all wait for all
    peers.interruption = interruption
    interruption.announce = announce_signal
    threading.Thread(target=peers.watch, daemon=True).start()


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
    for process in others() if together else ():
        store().blocking_key_value_get(f"{_word(number)}/{process}", _FOREVER)
    store().key_value_set(_word(number), json.dumps([subject, value]))
    if number >= _KEPT:
        store().key_value_delete(_word(number - _KEPT))
    return value


def _hear(subject: str, *, together: bool = False, milliseconds: int = _FOREVER) -> Any:
    number = next(_numbers)
    if together:
        _show(number)
    heard, value = json.loads(store().blocking_key_value_get(_word(number), milliseconds))
    if heard != subject:
        raise Abandoned(heard, value)
    return value


def order(value: Any) -> None:
    """What the followers do next; returns once they all have heard it, wherever they were. For the leader."""
    if several():
        agree("order", value)
        number = next(_numbers)
        for process in others():
            try:
                store().blocking_key_value_get(f"{_word(number)}/{process}", _ANSWER)
            except RuntimeError:
                peers.end(f"process {process} does not come to where process 0 is")


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
        peers.parted = True
        jax.distributed.shutdown()


def require_all() -> None:
    """Returns once every other process has shown that it lives. After an error, it may be that one does not: then this
    process ends."""
    if several():
        if peers.interruption.requested:
            leave(peers.interruption.signal)
        peers.wait_for_beats()


def fail(reason: str) -> None:
    """Ends this process with a line, and tells the others why."""
    say(f"left/{distributed.global_state.process_id}", reason)
    end_process(f"process {distributed.global_state.process_id}: {reason}")


def _show(number: int) -> None:
    """That this process has come to where this word of the leader's is heard."""
    store().key_value_set(f"{_word(number)}/{distributed.global_state.process_id}", "here")


def _word(number: int) -> str:
    return f"cnnjax/said/{number}"
