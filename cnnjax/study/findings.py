"""What the measures of a run found, on disk."""

import dataclasses
import io
import json
from typing import Any

import numpy as np
from etils import epath

from cnnjax.analysis.findings import Finding
from cnnjax.config import RequestError
from cnnjax.study.workdir import Unit


def measure_file(unit: Unit, piece: str) -> epath.Path:
    """Where a piece of what is measured of a run is kept; its arrays lie beside it."""
    return unit.folder / "measures" / f"{piece}.json"


def read_measure(path: epath.Path) -> dict[str, Any]:
    """A measure's `settings` and `findings`.

    Raises:
      RequestError: if the file is not what cnnjax wrote.
    """
    try:
        values = json.loads(path.read_text())
        findings = [dataclasses.asdict(Finding(**finding)) for finding in values["findings"]]
        return {"settings": dict(values["settings"]), "findings": findings}
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise RequestError(
            f"--workdir: {path} is not what cnnjax wrote ({reason}); remove it to measure anew"
        ) from None


def read_findings(unit: Unit) -> list[dict[str, Any]]:
    """All findings of a run as rows: metric, value, stage, magnitude, low, high, and the split they are of.

    Raises:
      RequestError: if a file is not what cnnjax wrote.
    """
    rows = []
    for path in sorted((unit.folder / "measures").glob("*.json")):
        values = read_measure(path)
        rows += [{"split": values["settings"]["split"], **finding} for finding in values["findings"]]
    return rows


def read_arrays(unit: Unit) -> dict[str, np.ndarray]:
    """The arrays of all measures of a run, by `MEASURE/ARRAY`."""
    arrays: dict[str, np.ndarray] = {}
    for path in sorted((unit.folder / "measures").glob("*.npz")):
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays |= {f"{path.stem}/{name}": file[name] for name in file.files}
    return arrays
