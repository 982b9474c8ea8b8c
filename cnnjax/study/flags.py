"""Reading the command line: absl's flags, and `--config.SECTION.FIELD=VALUE` for every field of the config."""

import sys
from collections.abc import Sequence

from absl import flags

from cnnjax.config import RequestError, check_path, nearest

_PREFIX = "--config."


def parse(known: flags.FlagValues, arguments: Sequence[str]) -> dict[str, str]:
    """Sets absl's flags from the arguments and returns the changed fields by path.

    `--help` prints the flags and ends the process.

    Args:
      known: the flags that are defined.
      arguments: the program's name and what follows it.

    Raises:
      RequestError: for a wrong flag, field or value, or an argument that is no flag.
    """
    program, *rest = arguments
    changes: dict[str, str] = {}
    others = [program]
    position = iter(rest)
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
        raise RequestError(f"--{error.flagname}: no such flag; {nearest(error.flagname, _own(known, program))}") from None
    except flags.Error as error:
        raise RequestError(f"--{str(error).removeprefix('flag ').removeprefix('--')}") from None
    if len(left) > 1:
        raise RequestError(f"{left[1]!r}: not a flag; flags read --NAME=VALUE")
    if "help" in known and known["help"].value:
        print(sys.modules["__main__"].__doc__)
        print(known.main_module_help())
        sys.exit(0)
    return changes


def _own(known: flags.FlagValues, program: str) -> list[str]:
    return [flag.name for flag in known.get_flags_for_module(program)] or ["config", "workdir", "arms", "seeds", "mode"]
