"""A run's metrics on disk: JSON lines, and the same numbers as TensorBoard events."""

import json
import time
from collections.abc import Mapping
from typing import Any

from etils import epath
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import hparams, scalar

from cnnjax.study.files import write_json, write_text

Row = dict[str, Any]
_NOT_METRICS = ("step", "epoch", "split")
_HYPERPARAMETERS = "hparams.json"


class MetricsFile:
    """Appends rows to `metrics.jsonl` in a run's folder, and to TensorBoard's events beside it.

    Opened at a step, it drops the rows of later steps, which a killed run wrote after its last checkpoint, and half
    written ones; the events are made anew from the rows that stay. The events of a sweep's trial begin with its
    hyper-parameters; see `write_hyperparameters`.

    Args:
      folder: the run's.
      step: the step that the run goes on from.
    """

    def __init__(self, folder: epath.Path, step: int) -> None:
        self._path = folder / "metrics.jsonl"
        kept = [row for row in read_rows(folder) if row["step"] <= step]
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in kept))
        for events in folder.glob("events.out.tfevents.*"):
            events.unlink()
        # Records are written here and now: the package's own writer has a thread, whose errors nobody would see.
        self._events = RecordWriter(str(folder / f"events.out.tfevents.{int(time.time()):010d}.cnnjax"))
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if (values := _read_hyperparameters(folder)) is not None:
            self._write(Event(wall_time=time.time(), summary=hparams(values, {})[1]))
        for row in kept:
            self._add_event(row)

    def append(self, row: Row) -> None:
        """Adds a row: `step`, `epoch`, `split`, and metrics. It is with the operating system when this returns."""
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._add_event(row)

    def _add_event(self, row: Row) -> None:
        for name, value in row.items():
            if name not in _NOT_METRICS:
                summary = scalar(f"{name}/{row['split']}", value)
                self._write(Event(wall_time=time.time(), step=row["step"], summary=summary))

    def _write(self, event: Event) -> None:
        self._events.write(event.SerializeToString())
        self._events.flush()

    def close(self) -> None:
        """Closes the events; the rows are written already."""
        self._events.close()


def read_rows(folder: epath.Path) -> list[Row]:
    """All whole rows of a run's `metrics.jsonl`; a half written last line is left out."""
    path = folder / "metrics.jsonl"
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def write_hyperparameters(folder: epath.Path, values: Mapping[str, str | int | float]) -> None:
    """Says what a run shows in TensorBoard's HParams tab, in `hparams.json`; to be written before the run begins."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _HYPERPARAMETERS, {name: _number_or_text(value) for name, value in values.items()})


def _number_or_text(value: str | int | float) -> str | int | float:
    """A number where the text is one, so that TensorBoard orders and draws it as one."""
    try:
        return float(value)
    except ValueError:
        return value


def _read_hyperparameters(folder: epath.Path) -> dict[str, Any] | None:
    path = folder / _HYPERPARAMETERS
    return dict(json.loads(path.read_text())) if path.exists() else None
