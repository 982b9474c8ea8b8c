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


# Takes half a second for each dispatch of what is named first (training, or a split that is evaluated), and touches a
# file in each.
SLOW = """
import dataclasses, pathlib, sys, time
from cnnjax.study import run
from cnnjax.train import loop
from launch import main

work, marker, *flags = sys.argv[1:]
fit, evaluate = loop.fit, loop.evaluate

def slow(dispatch):
    def slowly(*arguments):
        pathlib.Path(marker).touch()
        time.sleep(0.5)
        return dispatch(*arguments)
    return slowly

def fit_slowly(program, *arguments):
    return fit(dataclasses.replace(program, train=slow(program.train)), *arguments)

def evaluate_slowly(program, runs, params, stats, feed, where, plan, interruption):
    if where == getattr(plan, work):
        program = dataclasses.replace(program, evaluate=slow(program.evaluate))
    return evaluate(program, runs, params, stats, feed, where, plan, interruption)

if work == "training":
    run.fit = fit_slowly
else:
    loop.evaluate = run.evaluate = evaluate_slowly
sys.exit(main(["launch.py", *flags]))
"""


def start(
    workdir: Path, *flags: str, compiles: bool = False, slow: str = "", devices: int = 1, config: str = EXPERIMENT
) -> subprocess.Popen[str]:
    """Starts a study and does not wait.

    Args:
      compiles: whatever the tests before have compiled.
      slow: what it does slowly, `training` or a split that is evaluated; it touches WORKDIR/SLOW when it is there.
    """
    words = command(workdir, *flags, config=config)
    if slow:
        words[1:2] = ["-c", SLOW, slow, str(workdir / slow)]
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env={**environment(devices), "JAX_ENABLE_COMPILATION_CACHE": str(not compiles)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(devices: int) -> dict[str, str]:
    """This process's, with so many host devices."""
    return {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}


def said(errors: str) -> list[str]:
    """The lines of a study's standard error, but for those that say what is trained and how fast."""
    return [line for line in errors.splitlines() if "parameters are trained" not in line and "images/s" not in line]


def outcome(workdir: Path, arm: str = "learned", seed: int = 0) -> dict[str, Any]:
    """All that must not depend on how a run got to its end: parameters, metrics and results, without the times."""
    folder = workdir / "runs" / arm / f"seed{seed}"
    run = cnnjax.load(folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    results = pd.read_csv(workdir / "results.csv")
    times = results.metric.str.endswith(("_seconds", "_per_second")) | (results.metric == "peak_share")
    chosen = results[(results.arm == arm) & (results.seed == seed) & ~times]
    return {
        "variables": fingerprint(run.variables),
        "state": saved_state(folder),
        "metrics": [{name: value for name, value in row.items() if name != "seconds"} for row in rows],
        "results": chosen.drop(columns="seed").astype(str).values.tolist(),
    }


def newest_step(folder: Path) -> int:
    """Of a run's checkpoints that are whole; -1 if there is none."""
    return max((int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()), default=-1)


def saved_state(folder: Path) -> str:
    """The digest of the optimiser's state and all else that the last checkpoint goes on from, as Orbax wrote it."""
    newest = folder / "checkpoints" / str(newest_step(folder))
    return json.loads((newest / "progress" / "metadata").read_text())["digests"]["state"]
