"""Runs an experiment as a study.

    python launch.py --config=experiments/random_filters.py --workdir=runs/random_filters
        [--config.SECTION.FIELD=VALUE ...] [--arms=A,B] [--seeds=N] [--top=K]
        [--sweep=FIELD=VALUES ...] [--search=grid|random|sobol|halving|tpe] [--trials=N] [--storage=URL]
        [--mode=run|describe|measure|report] [--dry_run] [--profile]
        [--coordinator=HOST:PORT --processes=N --process=I | --coordinator=auto]
        [--engine=local|ray] [--cluster=ADDRESS] [--cpus=N] [--gpus=N] [--tpus=N] [--retries=N]

Exit status: 0 all well; 1 a run failed or diverged, or the disk is full; 2 the request was wrong; 130 or 143 stopped by
Ctrl-C or SIGTERM, with everything saved.
"""

import logging
import sys
from typing import Any

import absl.logging

from cnnjax.config import RequestError
from cnnjax.study.command import complain, execute
from cnnjax.study.flags import define, parse
from cnnjax.study.request import WRONG_REQUEST, EngineFlags, HostFlags, Request, SweepFlags
from cnnjax.train.interruption import run_interruptibly


def main(arguments: list[str]) -> int:
    """Does what the arguments (the program's name first) ask for, and returns the exit status."""
    given = define()
    try:
        changes = parse(given, arguments)
    except RequestError as error:
        complain(str(error))
        return WRONG_REQUEST
    if given.help:
        print(__doc__, given.get_help(), sep="\n")
        return 0
    request = Request(
        mode=given.mode,
        config=given.config,
        workdir=given.workdir,
        changes=changes,
        arms=given.arms,
        seeds=given.seeds,
        top=given.top,
        sweep=SweepFlags(tuple(given.sweep), given.search, given.trials, given.storage),
        shape=given.shape,
        classes=given.classes,
        hosts=HostFlags(given.coordinator, given.processes, given.process),
        engine=EngineFlags(
            name=given.engine,
            cluster=given.cluster,
            cpus=given.cpus,
            gpus=given.gpus,
            tpus=given.tpus,
            retries=given.retries,
            profile=given.profile,
        ),
        dry_run=given.dry_run,
    )
    return run_interruptibly(lambda interruption: execute(request, interruption))


def ignore_late_answers(unraisable: Any) -> None:
    """Once a file could not be read or written, TensorStore still answers Orbax, which has stopped listening."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    # A library has set up the root logger when it was imported.
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    logging.getLogger("cnnjax").setLevel(logging.INFO)
    logging.captureWarnings(True)
    absl.logging.set_verbosity(absl.logging.FATAL)  # Orbax logs the errors that it also raises
    sys.unraisablehook = ignore_late_answers
    sys.exit(main(sys.argv))
