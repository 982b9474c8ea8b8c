"""What the tests share: data sets in a folder of the session, and one small study that has finished."""

import dataclasses
import gc
import io
import json
import os
import shutil
import tempfile
from pathlib import Path

# TFDS reads this when it is imported: nothing is written into the user's own data folder.
os.environ["TFDS_DATA_DIR"] = tempfile.mkdtemp(prefix="cnnjax-tests-")
# The tests, and the processes that they start, compile the same programs again and again: one cache for all workers.
os.environ["JAX_COMPILATION_CACHE_DIR"] = (
    os.environ["JAX_COMPILATION_CACHE_DIR"]
    if "PYTEST_XDIST_WORKER" in os.environ
    else tempfile.mkdtemp(prefix="cnnjax-tests-")
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
# The workers share the cores: OpenBLAS's threads, which spin while they wait, would take them from one another.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import jaxlib.version

if jaxlib.version.__version_info__ < (0, 11):
    # The older of XLA's two ways to emit code for a CPU takes it half as long. Later versions have one alone.
    os.environ["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from hypothesis import settings
from rich.console import Console

from cnnjax.config import Config, DataConfig, FilterRule, ModelConfig, OptimConfig, StudyConfig, TrainConfig
from cnnjax.data.dataset import Dataset, DataSummary, Split, load_dataset
from cnnjax.study.experiment import Experiment
from cnnjax.study.measured_once import these_devices
from cnnjax.study.report import write_report
from cnnjax.study.runner import run_study
from cnnjax.study.workdir import Study, write_study
from cnnjax.train.assembly import Assembly, assemble
from cnnjax.train.beginning import Shared
from cnnjax.train.interruption import Interruption
from cnnjax.train.packing import Gain

# Tests compile much and compute little: machine code that is made sooner and runs slower takes them two thirds of the
# time. The processes that they start run what users run.
jax.config.update("jax_disable_most_optimizations", True)
# What is imported stays, and what tracing makes dies by itself: the collector looked at all of it again and again.
gc.freeze()
gc.set_threshold(100_000, 50, 1000)

# Each drawn shape is compiled anew: a few in the fast suite, more where the slow tests are asked for too.
settings.register_profile("fast", max_examples=3, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=20, deadline=None, derandomize=True)

# They last longest; started last, they would keep one worker busy while the other has nothing left.
FIRST = ("test_resume.py", "test_requests.py", "test_devices.py", "test_study_run.py")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("fast" if config.option.markexpr == "not slow" else "thorough")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in FIRST)


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["TFDS_DATA_DIR"], ignore_errors=True)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def measured_devices() -> None:
    """The devices are not measured here: runs gain nothing from being trained together, and all are as fast."""
    for name, measured in (("packing", [dataclasses.asdict(Gain(10**6, "map", 1.0, 1e-3))]), ("peak_float32", 1e12)):
        path = Path(os.environ["JAX_COMPILATION_CACHE_DIR"]) / f"{name}.json"
        here = these_devices().removeprefix(f"{jax.device_count()} x ")
        text = json.dumps({f"{count} x {here}": measured for count in (1, 2, 4, 8)})
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_text(text)
        beside.replace(path)


@pytest.fixture(scope="session", autouse=True)
def data_dir() -> str:
    """The folder of the session's data sets, where TFDS looks too."""
    folder = os.environ["TFDS_DATA_DIR"]
    assert folder == tfds.core.constants.DATA_DIR
    return folder


@pytest.fixture(scope="session")
def digits(data_dir: str) -> Dataset:
    return load_dataset(DataConfig(name="digits_8x8", dir=data_dir))


@pytest.fixture(scope="session")
def toy() -> Dataset:
    """Three classes of 6 x 6 images that differ in brightness: 50, 21 and 13 examples."""
    rng = np.random.default_rng(0)
    sizes = {"train": 50, "validation": 21, "test": 13}

    def split(size: int) -> Split:
        labels = rng.integers(0, 3, size).astype(np.int32)
        images = rng.integers(0, 120, (size, 6, 6, 1)) + 60 * labels[:, None, None, None]
        return Split(images.astype(np.uint8), labels)

    summary = DataSummary("toy", (6, 6, 1), 3, (120.0,), (60.0,), 0.0, 255.0, sizes)
    return Dataset(summary, *(split(size) for size in sizes.values()))


@pytest.fixture(scope="session")
def linear_config() -> Config:
    """Logistic regression on `toy`: 13 steps of 8, six to an epoch, evaluated after 6, 12 and 13."""
    return Config(
        model=ModelConfig(name="logistic"),
        optim=OptimConfig(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.01, schedule="cosine"),
        train=TrainConfig(epochs=13 / 6, batch_size=8, eval_batch_size=8, save_every=1e9),
    )


@pytest.fixture(scope="session")
def shared() -> Shared:
    return Shared()


@pytest.fixture(scope="session")
def linear(linear_config: Config, toy: Dataset, shared: Shared) -> Assembly:
    return assemble(linear_config, toy, 0, shared, Interruption())


@pytest.fixture(scope="session")
def finished_study(digits: Dataset, data_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two arms of two seeds on `digits_8x8`, trained for two epochs and reported."""
    learned = Config(
        model=ModelConfig(name="convnet", width=2, depth=1, kernel_size=3, pool="stride"),
        data=DataConfig(name="digits_8x8", dir=data_dir),
        optim=OptimConfig(name="sgd", lr=0.05),
        train=TrainConfig(epochs=2, batch_size=64),
        study=StudyConfig(seeds=2, pack=1),
    )
    frozen = (FilterRule("stage1/.*", "gaussian", "frozen"), FilterRule("head/.*"))
    arms = {"learned": learned, "gaussian": dataclasses.replace(learned, filters=frozen)}
    experiment = Experiment("tiny", "Do filters have to be learned?", arms)
    study = Study(epath.Path(tmp_path_factory.mktemp("finished") / "study"), experiment, 2)
    write_study(study)
    console = Console(file=io.StringIO())
    study = run_study(study, study.units, {learned.data: digits}, console, Interruption())
    write_report(study)
    return study
