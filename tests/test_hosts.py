"""Two processes of two devices each do what one process does, leave one study behind, and end together."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.config import RequestError
from cnnjax.data.dataset import Dataset
from cnnjax.study.request import HostFlags
from launch import main
from tests.launching import EXPERIMENT, ROOT, command, environment, launch, newest_step, outcome, said, start
from tests.test_resume import in_slow_training, wait_for

TOGETHER = """
import sys
import numpy as np
from cnnjax.train import hosts
from cnnjax.train.devices import AXIS, distribute, replicate, shards, spread, sum_over
from cnnjax.train.interruption import Interruption

process = int(sys.argv[2])
hosts.join(sys.argv[1], 2, process, Interruption())
assert hosts.several() and hosts.leads() == (process == 0)
assert hosts.agree("number", [process, "word"]) == [0, "word"]
assert (hosts.from_leader({"a": np.arange(3) + process})["a"] == np.arange(3)).all()

# The sum over devices of (number of the shard + 1) x (own part) x (what all have).
own, whole = distribute(np.float32([10 + 2 * process, 11 + 2 * process])), replicate(np.float32(2))
program = spread(lambda shard, state, given: state + sum_over(AXIS, (shard + 1) * given[0] * given[1]), (0, None))
found = program(shards(), replicate(np.float32(1)), (own, whole))
assert float(found) == 1 + 2 * (1 * 10 + 2 * 11 + 3 * 12 + 4 * 13), found

if process == 0:
    hosts.order({"next": 1})
else:
    try:
        hosts.agree("dispatch", None)
    except hosts.Abandoned as elsewhere:
        assert hosts.acknowledge(elsewhere.value) == {"next": 1}
hosts.part()
"""

# The first run fails at one process or at both.
PLANTED = """
import sys
from cnnjax.study import following, run
from launch import main

failing, *flags = sys.argv[1:]
fit, calls = run.fit, []

def fit_or_fail(*arguments):
    calls.append(arguments)
    if len(calls) == 1 and f"--process={flags[-1][-1]}" in failing:
        raise ValueError("planted")
    return fit(*arguments)

run.fit = following.fit = fit_or_fail
sys.exit(main(["launch.py", *flags]))
"""

ALONE = "--arms=learned"
FOLDER = Path("runs") / "learned" / "seed0"
EPOCHS = ("--config.train.epochs=2",)

LOGISTIC = """
from cnnjax.config import Config, DataConfig, ModelConfig, StudyConfig, TrainConfig

def get_config():
    train = TrainConfig(epochs=1, batch_size=32, eval_batch_size=64)
    return Config(ModelConfig(name="logistic"), DataConfig(name="digits_8x8"), train=train, study=StudyConfig(seeds=1))

def arms():
    return {"learned": {}}
"""


def start_both(
    workdir: Path, *flags: str, config: str = EXPERIMENT, slow: str = ""
) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """Two processes of two devices each, the leader first; they do not wait."""
    together = (*flags, f"--coordinator={free_address()}", "--processes=2")
    leader = start(workdir, *together, "--process=0", devices=2, config=config, slow=slow)
    return leader, start(workdir, *together, "--process=1", devices=2, config=config)


def free_address() -> str:
    """Of a port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def end(process: subprocess.Popen[str], timeout: float = 400) -> tuple[int, str, list[str]]:
    """Its exit status, what it printed, and the lines of its errors."""
    printed, errors = process.communicate(timeout=timeout)
    return process.returncode, printed, errors.splitlines()


def launch_both(workdir: Path, *flags: str, config: str = EXPERIMENT) -> list[str]:
    """Runs a study to its end in two processes; what the leader says (`said`), the other says nothing."""
    leader, follower = start_both(workdir, *flags, config=config)
    status, _, errors = end(leader)
    assert end(follower) == (0, "", [])
    assert status == 0, errors
    return said("\n".join(errors))


def assert_close(left: Any, right: Any) -> None:
    """Equal to the rounding of float32 over the steps of a run."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), left, right)


def assert_same_study(one: Path, two: Path, arm: str = "learned") -> None:
    """The same files, the same rows of metrics to rounding, and the same best variables."""

    def names(folder: Path) -> list[str]:
        found = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        return sorted(name.split(".out.")[0] for name in found if "checkpoints" not in name)

    assert names(one) == names(two)
    runs = [cnnjax.load(folder / "runs" / arm / "seed0") for folder in (one, two)]
    assert_close(runs[0].variables, runs[1].variables)
    left, right = (run.metrics.drop(columns="seconds") for run in runs)
    assert list(left.split) == list(right.split)
    numbers = left.select_dtypes("number").columns
    np.testing.assert_allclose(left[numbers], right[numbers], rtol=1e-3)


@pytest.mark.slow
def test_two_processes_leave_the_study_of_one(tmp_path: Path) -> None:
    experiment = tmp_path / "logistic.py"
    experiment.write_text(LOGISTIC)
    assert launch_both(tmp_path / "two", config=str(experiment)) == []
    assert main(command(tmp_path / "one", config=str(experiment))[1:]) == 0
    assert_same_study(tmp_path / "one", tmp_path / "two")


def test_two_processes_agree_and_compute_together() -> None:
    words = [sys.executable, "-c", TOGETHER, free_address()]
    both = [
        subprocess.Popen([*words, str(process)], cwd=ROOT, env=environment(2), stderr=subprocess.PIPE, text=True)
        for process in range(2)
    ]
    for process in both:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


@pytest.fixture(autouse=True, scope="module")
def prepared(digits: Dataset) -> None:
    """The data are there: nobody prepares them, and says so."""


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (HostFlags(None, 2), "--processes: needs --coordinator=HOST:PORT"),
        (HostFlags("auto", None, 0), "--process: needs --coordinator=HOST:PORT"),
        (HostFlags("localhost", 2, 0), "--coordinator: given 'localhost'; needs HOST:PORT, or auto"),
        (HostFlags("localhost:1234", None, 0), "--processes: not given; --coordinator=localhost:1234 needs it"),
        (HostFlags("localhost:1234", 2), "--process: not given; --coordinator=localhost:1234 needs it"),
        (HostFlags("localhost:1234", 2, 2), "--process: given 2; of 2 the last is 1"),
    ],
)
def test_flags_that_do_not_go_together(flags: HostFlags, line: str) -> None:
    with pytest.raises(RequestError) as raised:
        flags.check()
    assert str(raised.value) == line


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a study that two processes have finished."""
    workdir = tmp_path_factory.mktemp("two") / "study"
    launch_both(workdir, *EPOCHS)
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["learned", "frozen"])
def test_every_arm_is_that_of_one_process(arm: str, tmp_path: Path, undisturbed: Path) -> None:
    """With batch norm, dropout and augmentation; or on the features of a frozen stage."""
    assert launch(tmp_path / "one", *EPOCHS).returncode == 0
    assert_same_study(tmp_path / "one", undisturbed, arm)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_killed_process_ends_the_other_and_the_restart_is_exact(victim: int, tmp_path: Path, undisturbed: Path) -> None:
    workdir = tmp_path / "study"
    both = interrupt(workdir, victim, signal.SIGKILL)
    assert end(both[victim])[0] == -signal.SIGKILL
    status, _, errors = end(both[1 - victim])
    what = "process 0 has ended" if victim == 0 else "process 1 has ended, or does not answer"
    line = f"{what}; this process ends too, and the same command goes on from the last checkpoint"
    assert (status, errors) == (1, [line])
    assert_goes_on_as(undisturbed, workdir)


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [0, 1])
def test_signal_to_one_stops_both_with_all_saved(chosen: int, tmp_path: Path, undisturbed: Path) -> None:
    workdir = tmp_path / "study"
    for process in interrupt(workdir, chosen, signal.SIGTERM):
        status, _, errors = end(process)
        assert (status, errors[-1]) == (143, "stopped by SIGTERM; the same command goes on from here")
    assert newest_step(workdir / FOLDER) > 0
    assert_goes_on_as(undisturbed, workdir)


def interrupt(workdir: Path, chosen: int, number: signal.Signals) -> tuple[subprocess.Popen[str], ...]:
    """Starts two processes and sends one of them a signal in the middle of its training."""
    since = time.time()
    both = start_both(workdir, ALONE, *EPOCHS, slow="training")
    wait_for(lambda: in_slow_training(workdir, since) and newest_step(workdir / FOLDER) > 0, both[0])
    both[chosen].send_signal(number)
    return both


def assert_goes_on_as(undisturbed: Path, workdir: Path) -> None:
    step = newest_step(workdir / FOLDER)
    assert launch_both(workdir, ALONE, *EPOCHS) == [f"learned seed 0: going on from step {step}"]
    assert outcome(workdir) == outcome(undisturbed)


@pytest.mark.slow
def test_streamed_batches_are_read_in_shares(tmp_path: Path) -> None:
    flags = (ALONE, *EPOCHS, "--config.data.streamed=always", "--config.data.workers=0")
    launch_both(tmp_path / "two", *flags)
    assert launch(tmp_path / "one", *flags).returncode == 0
    assert_same_study(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_dry_run_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))  # where nothing was measured before
    leader, follower = start_both(tmp_path / "study", "--dry_run", ALONE)
    status, printed, errors = end(leader, timeout=60)
    assert (status, errors, end(follower)) == (0, [], (0, "", []))
    assert "1 of 1 runs to do" in printed and "not known" in printed and "in all" not in printed
    assert not (tmp_path / "study").exists()


@pytest.mark.slow
def test_wrong_request_is_said_once(tmp_path: Path) -> None:
    leader, follower = start_both(tmp_path / "study", "--config.study.pack=4")
    line = "config.study.pack: given 4; on many hosts each run is trained alone, by auto or 1"
    status, _, errors = end(leader)
    assert (status, errors) == (2, [line])
    assert end(follower) == (2, "", [])
    assert not (tmp_path / "study").exists()


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["--process=0", "--process=1", "--process=0 --process=1"])
def test_run_fails_for_all_and_the_next_begins_or_all_end(failing: str, tmp_path: Path) -> None:
    """A leader that has failed goes on, and takes the other along; without the other it cannot."""
    words = command(tmp_path / "study", *EPOCHS, f"--coordinator={free_address()}", "--processes=2")
    words[1:2] = ["-c", PLANTED, failing]
    both = [
        subprocess.Popen(
            [*words, f"--process={process}"],
            cwd=ROOT,
            env=environment(2),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    status, printed, errors = end(both[0])
    assert status == 1
    if failing == "--process=1":
        line = "process 1 has ended (ValueError: planted); this process ends too, and the same command goes on from"
        assert errors == [f"{line} the last checkpoint"]
        assert end(both[1]) == (1, "", ["process 1: ValueError: planted"])
    else:
        assert "learned seed 0 failed: ValueError: planted" in printed and "frozen seed 0: finished" in printed
        assert end(both[1]) == (1, "", [])


@pytest.mark.slow
def test_diverged_run_ends_for_all_and_the_next_begins(tmp_path: Path) -> None:
    leader, follower = start_both(tmp_path / "study", *EPOCHS, "--config.optim.lr=1e30")
    status, printed, _ = end(leader)
    assert (status, end(follower)) == (1, (1, "", []))
    assert "learned seed 0 diverged" in printed and "frozen seed 0 diverged" in printed
