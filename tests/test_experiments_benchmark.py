"""The benchmark prints a ratio for each of its parts; what the ratio is, a test does not say."""

import re
import subprocess
import sys

import pytest

from tests.launching import ROOT, environment

RATIOS = {
    "population": [r"16 lenet5 together \(map\) \d+ images/s, ratio", r"\(vmap\) \d+ images/s, ratio"],
    "overhead": [r"lenet5 for 20 steps, a run is"],
    "start": [r"lenet5's first step after [\d.]+ s,"],
    "memory": [r"\(map\), 4 runs .* ratio of 4 runs to this line", r"\(vmap\), 4 runs .* ratio of 4 runs to this line"],
}


@pytest.mark.slow
@pytest.mark.parametrize("part", RATIOS)
def test_every_part_prints_its_ratio(part: str) -> None:
    words = [sys.executable, "experiments/benchmark.py", f"--parts={part}", "--rounds=1", "--steps=1", "--batch_size=8"]
    ran = subprocess.run(words, cwd=ROOT, env=environment(1), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    device, *lines = ran.stdout.splitlines()
    assert re.match(r"1 x .*, JAX \d", device)
    assert len(lines) == len(RATIOS[part])
    for line, told in zip(lines, RATIOS[part], strict=True):
        assert line.startswith(f"{part}: ")
        assert re.search(told + r" \d+\.\d\d", line), line


@pytest.mark.slow
def test_unknown_part_is_one_line() -> None:
    words = [sys.executable, "experiments/benchmark.py", "--parts=populaton"]
    ran = subprocess.run(words, cwd=ROOT, env=environment(1), capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == "--parts: unknown part 'populaton'; did you mean 'population'?"
