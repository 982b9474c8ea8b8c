"""Checkpoints of one run, by Orbax: written beside the training, whole or not at all, and checked when they are read.

A run's hold three items: `state`, what is needed to go on; `best`, all variables of the best evaluation so far, what
is needed to use the network; `progress`, plain JSON. The arrays are saved from the host, so that a checkpoint knows
nothing of the devices it was made on.
"""

import dataclasses
import errno
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
from orbax.checkpoint.options import MultiprocessingOptions

from cnnjax.config import RequestError
from cnnjax.train.processes import several

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
        self._broken: list[int] = []
        self._digests: dict[int, dict[str, str]] = {}  # of the steps that were saved or read here
        alone = _this_process_alone()
        if read_only:
            options = ocp.CheckpointManagerOptions(
                read_only=True, create=False, save_interval_steps=0, multiprocessing_options=alone
            )
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=2, cleanup_tmp_directories=True, create=False, multiprocessing_options=alone
            )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, items: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        """Copies all to the host, and writes it in the background.

        A step saved before is left as it is where the arrays are the same, and written anew where they are not: then it
        was saved before its evaluation.

        What `newest` found broken makes room: Orbax saves no step before one that is there.
        """
        while self._broken:
            self._manager.delete(self._broken.pop())
        copies = jax.tree.map(np.array, jax.device_get(dict(items)))
        # What the caller gave is written later, and may be another by then.
        record = {
            "progress": json.loads(json.dumps(dict(progress))),
            "digests": {name: fingerprint(tree) for name, tree in copies.items()},
            "layouts": {name: layout(tree) for name, tree in copies.items()},
        }
        if step in self._manager.all_steps():
            if self._digests.get(step) == record["digests"]:
                return
            self._manager.wait_until_finished()
            self._manager.delete(step)
        self._digests[step] = record["digests"]
        arguments: dict[str, Any] = {name: ocp.args.StandardSave(tree) for name, tree in copies.items()}
        arguments["progress"] = ocp.args.JsonSave({**record, "seal": _json_digest(record)})
        self._manager.save(step, args=ocp.args.Composite(**arguments))

    def newest(self, templates: Mapping[str, Any]) -> Checkpoint | None:
        """The newest checkpoint that is whole, None if there is none.

        A broken one is named in the log, and removed when the next one is saved.

        Args:
          templates: by item, a tree with the shapes and dtypes of what was saved; other items are not read.

        Raises:
          RequestError: if it is whole, and another network's.
          MemoryError, OSError: if it may be whole, and cannot be read here and now.
        """
        steps = sorted(self._manager.all_steps())
        while steps:
            step = steps.pop()
            try:
                return self._restore(step, templates)
            except BrokenCheckpoint as error:
                at_last = "there is no other" if self._read_only else "starting anew"
                log.warning("%s; %s", error, "going on from the one before" if steps else at_last)
                self._broken.append(step)
        return None

    def _restore(self, step: int, templates: Mapping[str, Any]) -> Checkpoint:
        where = f"checkpoint {self._folder / str(step)}"
        try:
            record = dict(self._read(step, {"progress": ocp.args.JsonRestore()})["progress"])
            if record.pop("seal") != _json_digest(record):
                raise BrokenCheckpoint(f"{where} has other contents than were written (progress)")
            layouts = {name: layout(tree) for name, tree in templates.items()}
            if others := [name for name in layouts if layouts[name] != record["layouts"][name]]:
                raise RequestError(
                    f"{where} holds arrays of other names or shapes than this network's ({', '.join(others)})"
                )
            zeros = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), dict(templates))
            items = self._read(step, {name: ocp.args.StandardRestore(tree) for name, tree in zeros.items()})
            changed = [name for name, tree in items.items() if fingerprint(tree) != record["digests"][name]]
        except (BrokenCheckpoint, RequestError):
            raise
        except Exception as error:  # whatever a damaged file makes a reader raise
            if _passes(error):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise BrokenCheckpoint(f"{where} cannot be read ({reason})") from error
        if changed:
            raise BrokenCheckpoint(f"{where} has other contents than were written ({', '.join(changed)})")
        self._digests[step] = record["digests"]
        return Checkpoint(step, items, record["progress"])

    def _read(self, step: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
        saved = self._manager.restore(step, args=ocp.args.Composite(**arguments))
        return {name: saved[name] for name in arguments}

    def close(self) -> None:
        """Waits until everything is on disk, and raises what went wrong there."""
        self._manager.wait_until_finished()
        self._manager.close()


def _this_process_alone() -> MultiprocessingOptions:
    """Of many processes, one writes and reads by itself: Orbax waits for no other."""
    if not several():
        return MultiprocessingOptions()
    this = jax.process_index()
    return MultiprocessingOptions(this, active_processes={this}, barrier_sync_key_prefix=f"process{this}")


def _absolute(folder: epath.Path) -> epath.Path:
    """Orbax takes no relative paths; a bucket's address is one already."""
    return folder if "://" in str(folder) else epath.Path(os.path.abspath(folder))  # noqa: PTH100


def _passes(error: BaseException | None) -> bool:
    """Whether an exception, or one that it came from, says nothing of the file: another time it may be read."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)):
            return True
        error = error.__cause__ or error.__context__
    return False


def layout(tree: Any) -> str:
    """The SHA-256 of the paths, shapes and dtypes of all arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = ((jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves)
    return _json_digest({path: [list(leaf.shape), np.dtype(leaf.dtype).str] for path, leaf in named})


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
