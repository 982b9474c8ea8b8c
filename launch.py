"""The door: flags in, exit status out.

    python launch.py --config=experiments/random_filters.py --workdir=runs/random_filters
        [--config.SECTION.FIELD=VALUE ...] [--arms=A,B] [--seeds=N] [--mode=run|describe|report]
"""

import logging
import sys

import absl.logging
from absl import flags

from cnnjax.config import RequestError
from cnnjax.study.command import MODES, WRONG_REQUEST, Request, execute
from cnnjax.study.flags import parse
from cnnjax.train.interruption import run_interruptibly

flags.DEFINE_string("config", "", "The experiment's file; --config.SECTION.FIELD=VALUE changes any field of its config.")
flags.DEFINE_string("workdir", "", "The study's folder: new, or one to go on with.")
flags.DEFINE_list("arms", None, "Names of the arms wanted; all of the experiment's when not given.")
flags.DEFINE_integer("seeds", None, "How many seeds; the config's study.seeds when not given.", lower_bound=1)
flags.DEFINE_enum("mode", "run", list(MODES), "What to do: train what is not finished and report; or one part of it.")


def main(arguments: list[str]) -> int:
    """The exit status: 0 all well; 1 a run failed or diverged, or the disk is full; 2 the request was wrong."""
    try:
        changes = parse(flags.FLAGS, arguments)
    except RequestError as error:
        print(error, file=sys.stderr)
        return WRONG_REQUEST
    given = flags.FLAGS
    request = Request(given.mode, given.config, given.workdir, changes, given.arms, given.seeds)
    return run_interruptibly(lambda interruption: execute(request, interruption))


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("cnnjax").setLevel(logging.INFO)
    absl.logging.set_verbosity(absl.logging.ERROR)
    logging.captureWarnings(True)
    sys.exit(main(sys.argv))
