"""Starting `launch.py` as a user does, and comparing what it leaves behind."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

import cnnjax
from cnnjax.train.checkpoint import fingerprint

ROOT = Path(__file__).parent.parent
EXPERIMENT = "tests/tiny_experiment.py"


def command(workdir: Path, *flags: str, config: str = EXPERIMENT) -> list[str]:
    """The command line of a study."""
    return [sys.executable, "launch.py", f"--config={config}", f"--workdir={workdir}", *flags]


def launch(workdir: Path, *flags: str, devices: int = 1, config: str = EXPERIMENT) -> subprocess.CompletedProcess[str]:
    """Runs a study to its end on so many host devices."""
    return subprocess.run(
        command(workdir, *flags, config=config),
        cwd=ROOT,
        env=environment(devices),
        capture_output=True,
        text=True,
    )


def start(workdir: Path, *flags: str) -> subprocess.Popen[str]:
    """Starts a study and does not wait."""
    return subprocess.Popen(
        command(workdir, *flags),
        cwd=ROOT,
        env=environment(1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(devices: int) -> dict[str, str]:
    """This process's, with so many host devices."""
    return {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}


def outcome(workdir: Path, arm: str = "learned") -> dict[str, Any]:
    """All that must not depend on how a run got to its end: parameters, metrics and results, without the times."""
    folder = workdir / "runs" / arm / "seed0"
    run = cnnjax.load(folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    results = pd.read_csv(workdir / "results.csv")
    chosen = results[(results.arm == arm) & (results.metric != "train_seconds")]
    return {
        "variables": fingerprint(run.variables),
        "state": saved_state(folder),
        "metrics": [{name: value for name, value in row.items() if name != "seconds"} for row in rows],
        "results": chosen.drop(columns="seed").astype(str).values.tolist(),
    }


def saved_state(folder: Path) -> str:
    """The digest of the optimiser's state and all else that the last checkpoint goes on from, as Orbax wrote it."""
    newest = max((folder / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    return json.loads((newest / "progress" / "metadata").read_text())["digests"]["state"]
