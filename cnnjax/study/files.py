"""Writing files so that they are either whole or as they were, and knowing when there is no room for them."""

import errno
import json
from collections.abc import Mapping
from typing import Any

from etils import epath


class DiskFull(Exception):
    """There is no room left to write to."""


def write_text(path: epath.Path, text: str) -> None:
    """Replaces the file at `path`, or leaves it as it was."""
    beside = partial(path)
    beside.write_text(text)
    beside.replace(path)


def partial(path: epath.Path) -> epath.Path:
    """Where the file at `path` is written before it takes its place."""
    return path.parent / f".{path.name}.partial"


def write_json(path: epath.Path, values: Mapping[str, Any]) -> None:
    """Replaces the file at `path` by these values as JSON, or leaves it as it was."""
    write_text(path, json.dumps(values, indent=1) + "\n")


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an exception, or one that it came from, says that no room is left."""
    while error is not None:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left" in str(error) or "Disk quota exceeded" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
