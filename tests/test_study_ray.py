"""A real Ray cluster of two nodes trains a study as this machine alone does, and goes on when a node is lost."""

import json
import signal
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from cnnjax.config import Config, RequestError, override
from cnnjax.study.experiment import Experiment
from cnnjax.study.request import EngineFlags
from cnnjax.study.workdir import Study
from tests.launching import EXPERIMENT, ROOT, command, environment, launch, newest_step, outcome

ARMS = ("learned", "frozen")
FIRST = "runs/learned/seed0"

# Steps of the experiment between two evaluations.
STEPS_OF_AN_EPOCH = 39

# The second arm takes filters that the first one learns.
FROM_ANOTHER = """
from tests.tiny_experiment import get_config

def arms():
    taken = "stage1/.*=arm:learned,frozen;head/.*=init,trained"
    return {"taken": {"filters": taken}, "learned": {}}
"""


# So many workers die while they decide what is trained together.
LOST_SURVEY = """
import os, signal, sys
from pathlib import Path
from cnnjax.study import ray_driver
from launch import main

folder, losses, *flags = sys.argv[1:]
survey = ray_driver.survey
Path(folder).mkdir()

def lost_survey(*arguments):
    before = len(list(Path(folder).iterdir()))
    if before < int(losses):
        (Path(folder) / str(before)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return survey(*arguments)

ray_driver.survey = lost_survey
sys.exit(main(["launch.py", *flags]))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each."""
    with pytest.MonkeyPatch.context() as monkeypatch, warnings.catch_warnings():
        for name, value in {**environment(1), "RAY_USAGE_STATS_ENABLED": "0"}.items():
            monkeypatch.setenv(name, value)
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        try:
            cluster.add_node(num_cpus=1)
            yield cluster
        finally:
            cluster.shutdown()


@pytest.mark.parametrize(("gpus", "share"), [(0.0, None), (0.5, "0.45"), (1.0, None), (2.0, None)])
def test_workers_know_what_the_driver_knows_and_their_share_of_a_gpu(
    gpus: float, share: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnjax.study.ray_driver import worker_environment

    folders = {name: f"/{name}" for name in ("TFDS_DATA_DIR", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR")}
    for name, folder in folders.items():
        monkeypatch.setenv(name, folder)
    memory = {"XLA_CLIENT_MEM_FRACTION": share, "XLA_PYTHON_CLIENT_MEM_FRACTION": ""} if share else {}
    assert worker_environment(EngineFlags("ray", gpus=gpus)) == {**folders, **memory}
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert "XDG_CACHE_HOME" not in worker_environment(EngineFlags("ray", gpus=gpus))


def test_node_is_asked_once_about_runs_of_one_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnjax.study import ray_driver

    asked: list[set[str]] = []

    def ask(what: str, function: object, flags: EngineFlags, order: ray_driver.Order) -> None:
        asked.append(set(order.arms))
        if "odd" in order.arms:
            raise RequestError("3 devices do not divide it")

    monkeypatch.setattr(ray_driver, "_ask", ask)
    changes: dict[str, dict[str, Any]] = {
        "learned": {}, "fast": {"optim.lr": 1.0}, "wide": {"model.width": 8}, "odd": {"train.batch_size": 31}
    }  # fmt: skip
    arms = {arm: override(Config(), change) for arm, change in changes.items()}
    study = Study(epath.Path(tmp_path), Experiment("question", "Why?", arms), 1)
    units = {unit.arm: unit for unit in study.units}
    engine = ray_driver.RayCluster(EngineFlags("ray"))
    engine.check(study, [units["learned"]], {})
    engine.check(study, [units["fast"]], {})
    engine.check(study, [units["fast"], units["wide"]], {})
    for _ in range(2):
        with pytest.raises(RequestError):
            engine.check(study, [units["learned"], units["odd"]], {})
    assert asked == [{"learned"}, {"wide"}, {"odd"}, {"odd"}]


def start_on(
    cluster: Any, workdir: Path, *flags: str, devices: int = 1, losses: int = 0, config: str = EXPERIMENT
) -> subprocess.Popen[str]:
    """Starts a study on the cluster.

    Args:
      devices: of the driver.
      losses: how many workers are lost in the survey.
    """
    words = command(workdir, "--engine=ray", f"--cluster={cluster.address}", *flags, config=config)
    if losses:
        words[1:2] = ["-c", LOST_SURVEY, str(workdir.parent / "lost"), str(losses)]
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_checkpoints(process: subprocess.Popen[str], *folders: Path) -> None:
    """Until each run has been evaluated, and saved after that."""
    deadline = time.monotonic() + 120
    while not all(newest_step(folder) > STEPS_OF_AN_EPOCH for folder in folders):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def rows_to_stay(folder: Path) -> list[dict[str, Any]]:
    """Those of before a run's newest checkpoint; by their `seconds`, no other training has them."""
    saved = newest_step(folder)
    rows = [row for row in read_metrics(folder) if row["step"] < saved]
    assert any("seconds" in row for row in rows)
    return rows


def add_a_node(cluster: Any, **resources: Any) -> Any:
    """Ray forks this process, which has JAX's threads; the fork becomes another program at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cluster.add_node(**resources)


def lose_a_node(cluster: Any) -> None:
    cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)


@pytest.mark.slow
def test_stopped_study_goes_on_and_ends_as_it_would_have_alone(tmp_path: Path, cluster: Any) -> None:
    config = tmp_path / "from_another.py"
    config.write_text(FROM_ANOTHER)
    flags = ("--config.train.epochs=60", "--config.study.pack=2", "--seeds=2")
    process = start_on(cluster, tmp_path / "ray", *flags, config=str(config))
    wait_for_checkpoints(process, tmp_path / "ray" / FIRST)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 143, (out, errors)
    assert "stopped by SIGTERM; the same command goes on from here" in errors
    before = rows_to_stay(tmp_path / "ray" / FIRST)
    assert not (tmp_path / "ray" / "runs" / "taken").exists()  # it waits for the filters
    process = start_on(cluster, tmp_path / "ray", *flags, config=str(config))
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert out.count("finished in") == 4 and "2 together" in out
    rows = read_metrics(tmp_path / "ray" / FIRST)
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps) and rows[: len(before)] == before
    assert launch(tmp_path / "local", *flags, config=str(config)).returncode == 0
    for arm in ("learned", "taken"):
        assert outcome(tmp_path / "ray", arm) == outcome(tmp_path / "local", arm)


@pytest.mark.slow
def test_batch_is_checked_on_a_node_before_anything_is_written(tmp_path: Path, cluster: Any) -> None:
    three = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    node = add_a_node(cluster, num_cpus=2, env_vars=three)
    process = start_on(cluster, tmp_path / "ray", "--cpus=2", devices=2)
    out, errors = process.communicate(timeout=120)
    cluster.remove_node(node)
    assert process.returncode == 2
    line = "config.train.batch_size: 3 devices do not divide a batch of 32; 30 or 33 would do"
    assert (out, errors.splitlines()[-1]) == ("", line) and "Traceback" not in errors
    assert not (tmp_path / "ray").exists()


@pytest.mark.slow
def test_lost_survey_is_asked_for_again_and_the_driver_s_own_devices_say_nothing(tmp_path: Path, cluster: Any) -> None:
    flags = ("--arms=learned", "--config.train.epochs=1", "--config.train.batch_size=20")
    process = start_on(cluster, tmp_path / "ray", *flags, devices=8, losses=1)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    what = "the choice of what is trained together: its worker was lost (WorkerCrashedError); sent again, 1 of 3"
    assert errors.count(what) == 1
    assert out.count("finished in") == 1


@pytest.mark.slow
def test_survey_that_is_lost_too_often_ends_the_study_with_a_line(tmp_path: Path, cluster: Any) -> None:
    process = start_on(cluster, tmp_path / "ray", "--retries=0", losses=2)
    _, errors = process.communicate(timeout=120)
    line = "the choice of what is trained together has failed: its worker was lost 1 times (WorkerCrashedError)"
    assert (process.returncode, errors.splitlines()[-1]) == (1, line) and "Traceback" not in errors


@pytest.mark.slow
def test_run_of_a_lost_node_goes_on_elsewhere_and_ends_as_it_would_have_alone(tmp_path: Path, cluster: Any) -> None:
    epochs = "--config.train.epochs=40"
    process = start_on(cluster, tmp_path / "ray", epochs)
    folders = [tmp_path / "ray" / "runs" / arm / "seed0" for arm in ARMS]
    wait_for_checkpoints(process, *folders)
    before = [rows_to_stay(folder) for folder in folders]
    lose_a_node(cluster)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert errors.count("its worker was lost (NodeDiedError); sent again, 1 of 3") == 1
    assert out.count("finished in") == 2
    for folder, rows in zip(folders, before, strict=True):
        assert read_metrics(folder)[: len(rows)] == rows
    assert launch(tmp_path / "local", epochs).returncode == 0
    for arm in ARMS:
        assert outcome(tmp_path / "ray", arm) == outcome(tmp_path / "local", arm)


@pytest.mark.slow
def test_run_that_is_lost_too_often_has_failed(tmp_path: Path, cluster: Any) -> None:
    add_a_node(cluster, num_cpus=1)
    process = start_on(cluster, tmp_path / "ray", "--config.train.epochs=200", "--retries=0")
    wait_for_checkpoints(process, *(tmp_path / "ray" / "runs" / arm / "seed0" for arm in ARMS))
    lose_a_node(cluster)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert out.count("failed (its worker was lost 1 times (NodeDiedError))") == 1 and out.count("finished in") == 1


def test_cluster_that_is_not_there(tmp_path: Path) -> None:
    done = launch(tmp_path / "w", "--engine=ray", "--cluster=127.0.0.1:1")
    assert done.returncode == 2
    assert "--cluster: 127.0.0.1:1 cannot be reached" in done.stderr.splitlines()[-1]
