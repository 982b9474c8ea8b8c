"""What the command line can ask for, mode by mode."""

import sys
from collections.abc import Callable

from rich.console import Console

from cnnjax.config import RequestError, choose
from cnnjax.study.files import DiskFull, is_disk_full
from cnnjax.study.request import SOME_FAILED, WRONG_REQUEST, Request, WorkersLost
from cnnjax.train.interruption import Interruption


def execute(request: Request, interruption: Interruption) -> int:
    """Does what is asked, and returns the exit status: `OK`, `SOME_FAILED` (or a full disk), `WRONG_REQUEST`.

    Of many processes the first one does it, and the others train with it.
    """
    given = request.hosts
    try:
        request.check()
    except RequestError as error:
        complain(str(error))
        return WRONG_REQUEST
    if given.coordinator is None:
        return _execute(request, interruption)
    from cnnjax.train import hosts, processes

    try:
        with interruption.nothing_to_save():
            hosts.join(given.coordinator, given.processes, given.process, interruption)
    except RequestError as error:
        complain(str(error))
        return WRONG_REQUEST
    status = _lead(request, interruption) if processes.leads() else _follow(request, interruption)
    hosts.part()
    return status


def _lead(request: Request, interruption: Interruption) -> int:
    from cnnjax.train.hosts import order

    status = SOME_FAILED
    try:
        status = _execute(request, interruption)
    except Exception:
        order({"status": status})
        raise
    order({"status": status})
    return status


def _follow(request: Request, interruption: Interruption) -> int:
    from cnnjax.study.following import follow

    return follow(request.workdir, interruption)


def _execute(request: Request, interruption: Interruption) -> int:
    """What `execute` does in one process."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        return choose(MODES, request.mode, "--mode")(request, console, interruption)
    except RequestError as error:
        complain(str(error))
        return WRONG_REQUEST
    except (DiskFull, WorkersLost) as error:
        complain(str(error))
        return SOME_FAILED
    except Exception as error:
        if is_disk_full(error):
            where = error.filename or request.workdir if isinstance(error, OSError) else ""
            complain(f"the disk is full: {where} cannot be written" if where else f"the disk is full: {error}")
            return SOME_FAILED
        if not isinstance(error, OSError):
            raise
        complain(f"{error.filename or request.workdir}: {error.strerror or error}")
        return WRONG_REQUEST


def complain(message: str) -> None:
    """Says what is wrong, in one line whatever the user or a library wrote into it."""
    print(" ".join(message.splitlines()), file=sys.stderr)


# What one mode needs and another does not takes seconds to load: each loads its own.


def _run(request: Request, console: Console, interruption: Interruption) -> int:
    from cnnjax.study.modes import run

    return run(request, console, interruption)


def _describe(request: Request, console: Console, interruption: Interruption) -> int:
    from cnnjax.study.description import describe_arms

    return describe_arms(request, console, interruption)


def _measure(request: Request, console: Console, interruption: Interruption) -> int:
    from cnnjax.study.modes import measure

    return measure(request, console, interruption)


def _report(request: Request, console: Console, interruption: Interruption) -> int:
    from cnnjax.study.modes import report

    return report(request, console, interruption)


MODES: dict[str, Callable[[Request, Console, Interruption], int]] = {
    "run": _run,
    "describe": _describe,
    "measure": _measure,
    "report": _report,
}
