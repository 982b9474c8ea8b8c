"""What is measured of a machine's devices once, and kept beside the compiled programs."""

import json
import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from etils import epath

from cnnjax.study.workdir import processor
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
    path, devices = epath.Path(compilation_folder()) / f"{name}.json", these_devices()
    try:
        return read(json.loads(path.read_text())[devices])
    except (OSError, ValueError, LookupError, TypeError):
        found = measure()
    _keep(path, devices, found)
    return read(found)


def these_devices() -> str:
    """How many, their kind, and the version of JAX; of a CPU what it is, too."""
    kind = processor() if jax.default_backend() == "cpu" else jax.devices()[0].device_kind
    return f"{jax.device_count()} x {kind}, JAX {jax.__version__}"


def _keep(path: epath.Path, devices: str, found: Any) -> None:
    try:
        known = json.loads(path.read_text()) if path.exists() else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.parent / f"{path.name}.{os.getpid()}"
        beside.write_text(json.dumps({**known, devices: found}, indent=1))
        beside.replace(path)
    except (OSError, ValueError, TypeError) as error:
        log.debug("what was measured could not be kept: %s", error)
