"""Eight host devices do what one does, to rounding, and read each other's checkpoints."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath

import cnnjax
from cnnjax.config import override
from cnnjax.data.dataset import load_dataset
from cnnjax.study.experiment import read_experiment
from cnnjax.study.open_run import _items
from cnnjax.train.assembly import Assembly, assemble
from cnnjax.train.beginning import Shared
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.interruption import Interruption
from launch import main
from tests.launching import EXPERIMENT, ROOT, command, environment, launch, newest_step, outcome, said, start
from tests.test_resume import wait_for

FLAGS = ("--config.train.epochs=1", "--config.optim.lr=0.01")
ARMS = ("learned", "frozen")


def variables(workdir: Path) -> dict[str, Any]:
    """Of the best evaluation of each arm's run."""
    return {arm: cnnjax.load(workdir / "runs" / arm / "seed0").variables for arm in ARMS}


def assert_close(left: Any, right: Any) -> None:
    """Equal to the rounding of float32 over the steps of a run."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), left, right)


@pytest.fixture(scope="module")
def on_one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The variables of each arm on one device."""
    workdir = tmp_path_factory.mktemp("one") / "study"
    assert main(command(workdir, *FLAGS)[1:]) == 0
    return variables(workdir)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(8, 1), (1, 8)])
def test_eight_devices_equal_one_and_a_checkpoint_crosses(
    first: int, second: int, tmp_path: Path, on_one: dict[str, Any]
) -> None:
    """The first arm ends on so many devices, the second begins there and ends on others."""
    workdir = tmp_path / "study"
    frozen = workdir / "runs" / "frozen" / "seed0"
    begun = start(workdir, *FLAGS, devices=first)
    wait_for(lambda: newest_step(frozen) > 0, begun)
    begun.kill()
    begun.communicate()
    step = newest_step(frozen)
    finished = launch(workdir, *FLAGS, devices=second)
    assert finished.returncode == 0, finished.stderr
    assert said(finished.stderr) == [f"frozen seed 0: going on from step {step}"]
    assert_close(variables(workdir), on_one)


SEEDS = range(3)
PACKED = ("--arms=learned", "--seeds=3", "--config.study.pack=3", *FLAGS)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of three runs in one program over eight devices, to which nothing has happened."""
    workdir = tmp_path_factory.mktemp("packed") / "study"
    ran = launch(workdir, *PACKED, devices=8)
    assert ran.returncode == 0, ran.stderr
    assert ", 3 together" in ran.stdout
    return workdir


@pytest.mark.slow
def test_runs_together_on_eight_devices_are_those_of_one_device_alone(packed: Path, tmp_path: Path) -> None:
    assert main(command(tmp_path / "study", *PACKED, "--config.study.pack=1")[1:]) == 0
    for seed in SEEDS:
        together, alone = (
            cnnjax.load(workdir / "runs" / "learned" / f"seed{seed}") for workdir in (packed, tmp_path / "study")
        )
        assert_close(together.variables, alone.variables)
        assert len(together.metrics) == len(alone.metrics)


@pytest.mark.slow
def test_killed_runs_together_end_as_if_untouched_in_the_program_that_was_chosen(packed: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "study"
    begun = start(workdir, *PACKED, devices=8, slow="training")
    wait_for(lambda: newest_step(workdir / "runs" / "learned" / "seed2") > 0, begun)
    begun.kill()
    begun.communicate()
    chosen = [json.loads((folder / "study.json").read_text())["packs"] for folder in (workdir, packed)]
    assert chosen[0] == chosen[1] and [choice["members"] for choice in chosen[0].values()] == [3]
    again = launch(workdir, *PACKED, devices=8)
    assert again.returncode == 0, again.stderr
    assert len(said(again.stderr)) == 3 and all("going on from step" in line for line in said(again.stderr))
    assert [outcome(workdir, seed=seed) for seed in SEEDS] == [outcome(packed, seed=seed) for seed in SEEDS]


STEPS = 50
ON_EIGHT = """
import sys

import jax
import numpy as np
from etils import epath

from cnnjax.study.open_run import _items
from cnnjax.train.checkpoint import Checkpoints
from tests.test_devices import STEPS, assembled

assert jax.device_count() == 8
run = assembled()
state = run.program.train(run.state, run.inputs, [STEPS])
for leaf in jax.tree.leaves(state):
    shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
    assert len(shards) == 8 and all((shard == shards[0]).all() for shard in shards), leaf
checkpoints = Checkpoints(epath.Path(sys.argv[1]))
checkpoints.save(STEPS, _items(state, run.members[0]), {})
checkpoints.close()
"""


def assembled() -> Assembly:
    """The experiment's frozen arm, on the devices of this process."""
    config = read_experiment(EXPERIMENT, {}, ["frozen"]).arms["frozen"]
    config = override(config, {"optim.lr": 0.01})
    return assemble(config, load_dataset(config.data), 0, Shared(), Interruption())


def test_eight_shards_agree_exactly_and_their_checkpoint_is_that_of_one_device(tmp_path: Path) -> None:
    words = [sys.executable, "-c", ON_EIGHT, str(tmp_path / "checkpoints")]
    ran = subprocess.run(words, cwd=ROOT, env=environment(8), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    run = assembled()
    expected = _items(run.program.train(run.state, run.inputs, [STEPS]), run.members[0])
    checkpoints = Checkpoints(epath.Path(tmp_path / "checkpoints"), read_only=True)
    saved = checkpoints.newest(expected)
    checkpoints.close()
    assert saved is not None and saved.step == STEPS
    assert_close(jax.device_get(saved.items), jax.device_get(expected))


def test_batch_that_devices_do_not_divide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    assert main(command(tmp_path / "study", "--config.train.batch_size=20")[1:]) == 2
    wanted = "config.train.batch_size: 8 devices do not divide a batch of 20; 16 or 24 would do\n"
    assert capsys.readouterr().err == wanted
    assert not (tmp_path / "study").exists()
