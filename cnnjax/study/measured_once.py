"""What is measured of a machine's devices once, and kept beside the compiled programs."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax

from cnnjax.train.compilation_cache import compilation_folder

log = logging.getLogger(__name__)

T = TypeVar("T")


def measured_once(name: str, read: Callable[[Any], T], measure: Callable[[], Any]) -> T:
    """What `measure` gave, here or in an earlier process with the same devices and the same JAX.

    Args:
      name: of the file that keeps it.
      read: from what was kept, plain JSON; it may raise where that is something else.
      measure: to plain JSON.
    """
    path, devices = Path(compilation_folder()) / f"{name}.json", these_devices()
    try:
        return read(json.loads(path.read_text())[devices])
    except (OSError, ValueError, LookupError, TypeError):
        found = measure()
    _keep(path, devices, found)
    return read(found)


def these_devices() -> str:
    """How many, their kind, and the version of JAX."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}, JAX {jax.__version__}"


def _keep(path: Path, devices: str, found: Any) -> None:
    try:
        known = json.loads(path.read_text()) if path.exists() else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps({**known, devices: found}, indent=1))
        beside.replace(path)
    except (OSError, ValueError, TypeError) as error:
        log.debug("what was measured could not be kept: %s", error)
