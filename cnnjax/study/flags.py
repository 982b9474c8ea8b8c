"""Reading the command line: absl's flags, and `--config.SECTION.FIELD=VALUE` for every field of the config."""

from collections.abc import Sequence

from absl import flags

from cnnjax.config import RequestError, check_path, nearest
from cnnjax.study.command import MODES
from cnnjax.study.sweep.spec import FORMS
from cnnjax.study.sweep.trials import SEARCHES

_PREFIX = "--config."


def define() -> flags.FlagValues:
    """The flags of `launch.py`, not yet set."""
    values = flags.FlagValues()
    change = "The experiment's file; --config.SECTION.FIELD=VALUE changes any field of its config."
    flags.DEFINE_string("config", "", change, flag_values=values)
    flags.DEFINE_string("workdir", "", "The study's folder: new, or one to go on with.", flag_values=values)
    flags.DEFINE_list(
        "arms", None, "Names of the arms wanted; all of the experiment's when not given.", flag_values=values
    )
    seeds = "How many seeds; the config's study.seeds when not given."
    flags.DEFINE_integer("seeds", None, seeds, lower_bound=1, flag_values=values)
    top = "Of a screening: train in full only so many architectures, those best by their random filters."
    flags.DEFINE_integer("top", None, top, lower_bound=1, flag_values=values)
    sweep = "FIELD=VALUES, or ARM/FIELD=VALUES: trains trials of the arms with these values; may be given many times."
    flags.DEFINE_multi_string("sweep", [], f"{sweep} VALUES read {FORMS}.", flag_values=values)
    search = "Which trials; a grid of all values when not given, or with --trials, drawn at random."
    flags.DEFINE_enum("search", None, list(SEARCHES), search, flag_values=values)
    trials = "How many trials of each arm."
    flags.DEFINE_integer("trials", None, trials, lower_bound=1, flag_values=values)
    storage = "With --search=tpe: Optuna's storage, by its URL, which many launchers may share; a file when not given."
    flags.DEFINE_string("storage", None, storage, flag_values=values)
    mode = "Train what is not finished and report; or print the networks' tables; or measure; or make the report anew."
    flags.DEFINE_enum("mode", "run", list(MODES), mode, flag_values=values)
    shape = "With --mode=describe: of the images, as 224,224,3; the data set's when not given."
    flags.DEFINE_list("shape", None, shape, flag_values=values)
    classes = "With --shape: how many the network tells apart."
    flags.DEFINE_integer("classes", 1000, classes, lower_bound=1, flag_values=values)
    coordinator = "Of a run on many hosts: HOST:PORT of process 0; auto on TPU pods and under Slurm or Open MPI."
    flags.DEFINE_string("coordinator", None, coordinator, flag_values=values)
    processes = "With --coordinator=HOST:PORT: how many processes there are."
    flags.DEFINE_integer("processes", None, processes, lower_bound=1, flag_values=values)
    process = "With --coordinator=HOST:PORT: which one this is, from 0."
    flags.DEFINE_integer("process", None, process, lower_bound=0, flag_values=values)
    engine = "Train in this process, or on the cluster of Ray (pip install 'cnnjax[ray]')."
    flags.DEFINE_enum("engine", "local", ["local", "ray"], engine, flag_values=values)
    cluster = "With --engine=ray: HOST:PORT, or auto; by default RAY_ADDRESS, or a cluster of this machine alone."
    flags.DEFINE_string("cluster", None, cluster, flag_values=values)
    for name, default in {"cpus": 1.0, "gpus": 0.0}.items():
        shown = f"With --engine=ray: {name[:-1].upper()}s of a node that each run, or pack of runs, takes."
        flags.DEFINE_float(name, default, shown, lower_bound=0.0, flag_values=values)
    tpus = "With --engine=ray: TPU chips of a node that each run, or pack of runs, takes."
    flags.DEFINE_integer("tpus", 0, tpus, lower_bound=0, flag_values=values)
    retries = "With --engine=ray: how often a run is sent again whose worker or node was lost."
    flags.DEFINE_integer("retries", 3, retries, lower_bound=0, flag_values=values)
    profile = "Keeps a trace of two seconds of the first run's training in WORKDIR/profile."
    flags.DEFINE_bool("profile", False, profile, flag_values=values)
    dry = "Prints the runs to do, which are trained together, and about how long they will take; nothing is written."
    flags.DEFINE_bool("dry_run", False, dry, flag_values=values)
    flags.DEFINE_bool("help", False, "Prints this.", flag_values=values)
    return values


def parse(known: flags.FlagValues, arguments: Sequence[str]) -> dict[str, str]:
    """Sets absl's flags from the arguments and returns the changed fields by path.

    Args:
      known: the flags that are defined.
      arguments: the program's name and what follows it.

    Raises:
      RequestError: for a wrong flag, field or value, or an argument that is no flag.
    """
    changes: dict[str, str] = {}
    others = list(arguments[:1])
    position = iter(arguments[1:])
    for argument in position:
        name, equals, value = argument.partition("=")
        name = f"-{name}" if name.startswith("-config.") else name
        if not name.startswith(_PREFIX):
            others.append(argument)
            continue
        path = check_path(name.removeprefix(_PREFIX))
        if not equals:
            value = next(position, "")
            if not value or value.startswith("--"):
                raise RequestError(f"{name}: needs a value, as in {name}=VALUE")
        changes[path] = value
    try:
        left = known(others)
    except flags.UnrecognizedFlagError as error:
        raise RequestError(f"--{error.flagname}: no such flag; {nearest(error.flagname, list(known))}") from None
    except flags.Error as error:
        raise RequestError(f"--{str(error).removeprefix('flag ').removeprefix('--')}") from None
    if len(left) > 1:
        raise RequestError(f"{left[1]!r}: not a flag; flags read --NAME=VALUE")
    return changes
