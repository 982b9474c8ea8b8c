"""Describing from the command line loads no more than it needs."""

import json
import subprocess
import sys

from tests.launching import EXPERIMENT, ROOT, environment

# Each takes a tenth of a second to a second to load.
HEAVY = {"matplotlib", "optax", "orbax", "pandas", "scipy", "sklearn", "tensorboardX", "tensorflow_datasets"}

DESCRIBE = f"""
import json, sys
from launch import main
status = main(["launch.py", "--config={EXPERIMENT}", "--mode=describe", "--shape=8,8,1", "--classes=10"])
print(json.dumps([status, sorted(sys.modules)]))
"""


def test_nothing_heavy_is_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DESCRIBE], cwd=ROOT, env=environment(1), capture_output=True, text=True, check=True
    )
    status, loaded = json.loads(done.stdout.splitlines()[-1])
    assert status == 0 and "total" in done.stdout
    assert "cnnjax.models.description" in loaded
    assert HEAVY & set(loaded) == set()
