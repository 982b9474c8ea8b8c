"""Runs whose accuracy is a planted function of their config: what a study leaves on disk, without any training."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from cnnjax.config import Config
from cnnjax.study.run import Extent
from cnnjax.study.workdir import Study, Unit, read_status
from cnnjax.train.interruption import Stopped

Objective = Callable[[Config, float], float]
"""The accuracy on the validation split, in [0, 1], of a config after so many epochs."""


def best_at_a_tenth(config: Config, epoch: float) -> float:
    """Highest for a learning rate of 0.1, with a width of 16 where there is one, and rising along training."""
    away = abs(math.log10(config.optim.lr) + 1) + (0 if config.model.width in (None, 16) else 0.3)
    return (1 - away / 10) * (1 - 0.5 / (1 + epoch))


class PlantedRuns:
    """In the place of `run_study`: writes what it would.

    Args:
      objective: planted.
      stop_after: how many runs come to where they are to be before a signal comes; None for no signal.
    """

    def __init__(self, objective: Objective = best_at_a_tenth, stop_after: int | None = None) -> None:
        self.objective, self.stop_after = objective, stop_after
        self.calls: list[tuple[list[str], float | None, bool]] = []
        self.later: list[float] = []

    def __call__(
        self,
        study: Study,
        units: list[Unit],
        datasets: Any,
        console: Any,
        interruption: Any,
        extent: Extent,
        features: Any,
        profile: None,
    ) -> Study:
        self.calls.append(([f"{unit.arm}/{unit.seed}" for unit in units], extent.until, extent.test))
        self.later.append(extent.later)
        for unit in units:
            if self.stop_after == 0:
                raise Stopped
            self.run(unit, study.experiment.arms[unit.arm], extent.until, extent.test)
            self.stop_after = self.stop_after and self.stop_after - 1
        return study

    def run(self, unit: Unit, config: Config, until: float | None, test: bool) -> None:
        """Writes rows of each epoch and a status."""
        unit.folder.mkdir(parents=True, exist_ok=True)
        before = read_status(unit).get("metrics", {})
        end = min(until or math.inf, config.train.epochs)
        values = {epoch: self.objective(config, epoch) for epoch in range(1, int(end) + 1)}
        diverged = [epoch for epoch, value in values.items() if math.isnan(value)]
        rows = [
            {"step": 10 * epoch, "epoch": float(epoch), "split": split, "accuracy": value, "loss": 1.0}
            for epoch, value in values.items()
            for split in ("train", "validation")
            if not diverged or epoch < diverged[0]
        ]
        (unit.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        status: dict[str, Any] = {"step": 10 * end, "steps": 10 * config.train.epochs, "epoch": end}
        if diverged:
            status = {"state": "diverged", "error": "the loss was nan"}
        elif end < config.train.epochs:
            status |= {"state": "paused", "metrics": {"validation": {"accuracy": max(values.values()), "loss": 1.0}}}
        else:
            metrics = {"validation": {"accuracy": max(values.values())}}
            if test or "test" in before:
                metrics["test"] = {"accuracy": 0.5, "loss": 1.0}
            whole = {"parameters": 7, "parameters_trained": 7, "features": 7, "best_step": 10}
            status |= {"state": "finished", "metrics": metrics, "seconds": {"train": 1.0, "preparation": 0.5}, **whole}
        (unit.folder / "status.json").write_text(json.dumps(status))


def plant(monkeypatch: pytest.MonkeyPatch, runs: PlantedRuns) -> PlantedRuns:
    """Lets sweeps run these."""
    monkeypatch.setattr("cnnjax.study.engine.run_study", runs)
    return runs


def arms_tested(workdir: Path) -> list[str]:
    """The arms that have read the test split."""
    statuses = {path: json.loads(path.read_text()) for path in sorted(epath.Path(workdir).glob("runs/*/*/status.json"))}
    return [path.parts[-3] for path, status in statuses.items() if "test" in status.get("metrics", {})]
