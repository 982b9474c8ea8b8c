"""Where the runs of a study are trained: in this process, or on a Ray cluster."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence

import jax
from etils import epath
from rich.console import Console

from cnnjax.config import DataConfig, RequestError, choose
from cnnjax.data.streamed import AnyDataset
from cnnjax.study.feature_files import FileStore
from cnnjax.study.profiling import Profile
from cnnjax.study.request import EngineFlags
from cnnjax.study.run import Extent
from cnnjax.study.runner import run_study
from cnnjax.study.workdir import Study, Unit
from cnnjax.train.interruption import Interruption
from cnnjax.train.setup import check_devices

_PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"


Datasets = Mapping[DataConfig, AnyDataset]


@dataclasses.dataclass(frozen=True)
class Engine:
    """What trains a study's units.

    Attributes:
      check: raises `RequestError`, before anything is written, where the devices that would train the units cannot.
      run: runs them; arguments, value and errors as in `cnnjax.study.runner.run_study`.
    """

    check: Callable[[Study, Sequence[Unit], Datasets], None]
    run: Callable[[Study, list[Unit], Datasets, Console, Interruption, Extent], Study]


def _check_here(study: Study, units: Sequence[Unit], datasets: Datasets) -> None:
    for arm in dict.fromkeys(unit.arm for unit in units):
        config = study.experiment.arms[arm]
        check_devices(config, datasets[config.data].summary)


def _local(flags: EngineFlags, folder: epath.Path, features: FileStore | None) -> Engine:
    if flags.profile and "://" in str(folder):
        raise RequestError(f"--profile: {folder} is no folder of this machine, where a trace is written")
    run = functools.partial(run_study, features=features, profile=Profile(folder) if flags.profile else None)
    return Engine(_check_here, run)


def _ray(flags: EngineFlags, folder: epath.Path, features: FileStore | None) -> Engine:
    # Ray is an extra.
    from cnnjax.study.ray_driver import RayCluster, connect

    connect(flags)
    cluster = RayCluster(flags)
    return Engine(cluster.check, cluster.run)


ENGINES: dict[str, Callable[[EngineFlags, epath.Path, FileStore | None], Engine]] = {"local": _local, "ray": _ray}


def open_engine(flags: EngineFlags, folder: epath.Path, features: FileStore | None = None) -> Engine:
    """The engine that the flags name.

    Args:
      flags: checked.
      folder: of the study.
      features: of frozen prefixes, kept by the local engine from one call to the next.

    Raises:
      RequestError: for a Ray cluster that cannot be reached, or a folder where no trace can be written.
    """
    return choose(ENGINES, flags.name, "--engine")(flags, folder, features)


def share_devices(flags: EngineFlags) -> None:
    """Where others than this process train, opens the devices so that their memory is left to them; to be called before
    anything is computed.

    On a GPU, JAX takes three quarters of the memory when it opens it, and Ray's workers may be on this very GPU. This
    process computes little until they are done, and then measures as fast as on a GPU of its own.
    """
    if flags.name == "ray" and _PREALLOCATE not in os.environ:
        os.environ[_PREALLOCATE] = "false"
        jax.devices()  # it is read here, and once
        del os.environ[_PREALLOCATE]  # a cluster that is begun on this machine would take it over
