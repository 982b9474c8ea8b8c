"""Where the runs of a study are trained: in this process, or on a Ray cluster."""

import functools
from collections.abc import Callable, Mapping
from typing import Protocol

from etils import epath
from rich.console import Console

from cnnjax.config import DataConfig, RequestError, choose
from cnnjax.data.streamed import AnyDataset
from cnnjax.study.feature_files import FileStore
from cnnjax.study.profiling import Profile
from cnnjax.study.request import EngineFlags
from cnnjax.study.run import WHOLE, Extent
from cnnjax.study.runner import run_study
from cnnjax.study.workdir import Study, Unit
from cnnjax.train.interruption import Interruption


class Engine(Protocol):
    """Runs units of a study; arguments, value and errors as in `cnnjax.study.runner.run_study`."""

    def __call__(
        self,
        study: Study,
        units: list[Unit],
        datasets: Mapping[DataConfig, AnyDataset],
        console: Console,
        interruption: Interruption,
        extent: Extent = WHOLE,
    ) -> Study: ...


def _local(flags: EngineFlags, folder: epath.Path, features: FileStore | None) -> Engine:
    if flags.profile and "://" in str(folder):
        raise RequestError(f"--profile: {folder} is no folder of this machine, where a trace is written")
    return functools.partial(run_study, features=features, profile=Profile(folder) if flags.profile else None)


def _ray(flags: EngineFlags, folder: epath.Path, features: FileStore | None) -> Engine:
    # Ray is an extra.
    from cnnjax.study.ray_driver import connect, run_on_ray

    connect(flags)
    return functools.partial(run_on_ray, flags)


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
