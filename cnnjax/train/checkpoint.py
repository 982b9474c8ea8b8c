"""Checkpoints of one run, by Orbax: written beside the training, whole or not at all, and checked when they are read.

A run's hold three items: `state`, what is needed to go on; `best`, all variables of the best evaluation so far, what
is needed to use the network; `progress`, plain JSON. The arrays are saved from the host, so that a checkpoint knows
nothing of the devices it was made on.
"""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

log = logging.getLogger(__name__)


class BrokenCheckpoint(Exception):
    """A checkpoint that cannot be read, or not as it was written."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What was saved at a step: the step, trees of NumPy arrays by item, and plain JSON values."""

    step: int
    items: dict[str, Any]
    progress: dict[str, Any]


class Checkpoints:
    """The checkpoints in one folder: the two newest are kept, so that a broken one costs little.

    Args:
      folder: made if it is not there.
      read_only: for loading: nothing is made, changed or removed.
    """

    def __init__(self, folder: epath.Path, *, read_only: bool = False) -> None:
        self._folder = _absolute(folder)
        self._read_only = read_only
        if read_only:
            options = ocp.CheckpointManagerOptions(read_only=True)
        else:
            options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, items: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        """Copies the arrays to the host, and writes them in the background. A step saved before is left as it is."""
        if step in self._manager.all_steps():
            return
        copies = jax.tree.map(np.array, jax.device_get(dict(items)))
        progress = dict(progress)
        digests = {name: fingerprint(tree) for name, tree in copies.items()} | {"progress": _json_digest(progress)}
        arguments: dict[str, Any] = {name: ocp.args.StandardSave(tree) for name, tree in copies.items()}
        arguments["progress"] = ocp.args.JsonSave({**progress, "digests": digests})
        self._manager.save(step, args=ocp.args.Composite(**arguments))

    def newest(self, templates: Mapping[str, Any]) -> Checkpoint | None:
        """The newest checkpoint that is whole, None if there is none. A broken one is named in the log, and removed.

        Args:
          templates: by item, a tree with the shapes and dtypes of what was saved; other items are not read.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._restore(step, templates)
            except BrokenCheckpoint as error:
                log.warning("%s; going on from the one before", error)
                if not self._read_only:
                    self._manager.delete(step)
        return None

    def _restore(self, step: int, templates: Mapping[str, Any]) -> Checkpoint:
        zeros = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), dict(templates))
        arguments: dict[str, Any] = {name: ocp.args.StandardRestore(tree) for name, tree in zeros.items()}
        arguments["progress"] = ocp.args.JsonRestore()
        where = f"checkpoint {self._folder / str(step)}"
        try:
            saved = self._manager.restore(step, args=ocp.args.Composite(**arguments))
            progress = dict(saved["progress"])
            digests = progress.pop("digests")
            items = {name: saved[name] for name in templates}
            changed = [name for name, tree in items.items() if fingerprint(tree) != digests[name]]
            changed += [] if _json_digest(progress) == digests["progress"] else ["progress"]
            same = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, items, zeros)
        except Exception as error:  # whatever a damaged file makes a reader raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise BrokenCheckpoint(f"{where} cannot be read ({reason})") from error
        if changed:
            raise BrokenCheckpoint(f"{where} has other contents than were written ({', '.join(changed)})")
        if not all(jax.tree.leaves(same)):
            raise BrokenCheckpoint(f"{where} holds arrays of other shapes than this network's")
        return Checkpoint(step, items, progress)

    def close(self) -> None:
        """Waits until everything is on disk, and raises what went wrong there."""
        self._manager.wait_until_finished()
        self._manager.close()


def _absolute(folder: epath.Path) -> epath.Path:
    """Orbax takes no relative paths; a bucket's address is one already."""
    return folder if "://" in str(folder) else epath.Path(os.path.abspath(folder))  # noqa: PTH100


def _json_digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def fingerprint(tree: Any) -> str:
    """The SHA-256 of all arrays, with their dtypes and shapes, in the tree's order."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
