"""Writing files so that they are either whole or as they were."""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath


def write_text(path: epath.Path, text: str) -> None:
    """Replaces the file at `path`, or leaves it as it was."""
    beside = path.parent / f".{path.name}.partial"
    beside.write_text(text)
    beside.replace(path)


def write_json(path: epath.Path, values: Mapping[str, Any]) -> None:
    """Replaces the file at `path` by these values as JSON, or leaves it as it was."""
    write_text(path, json.dumps(values, indent=1) + "\n")
