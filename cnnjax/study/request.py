"""What is asked on the command line, before it is known to be right."""

import dataclasses
import importlib.util
from collections.abc import Mapping

from cnnjax.config import RequestError
from cnnjax.study.experiment import Experiment, read_experiment

OK, SOME_FAILED, WRONG_REQUEST = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class SweepFlags:
    """The flags of a sweep.

    Attributes:
      specs: of `--sweep`; empty for none.
      search: a key of `cnnjax.study.sweep.trials.SEARCHES`; None for a grid, or with a number
        of trials, points at random.
      trials: how many of each arm; None if not given.
      storage: Optuna's, by its URL; None for a file in the workdir.
    """

    specs: tuple[str, ...] = ()
    search: str | None = None
    trials: int | None = None
    storage: str | None = None


@dataclasses.dataclass(frozen=True)
class HostFlags:
    """The flags of a run on many hosts; see `cnnjax.train.hosts.join`.

    Attributes:
      coordinator: HOST:PORT, or `auto`; None for a process alone.
      processes, process: None if not given.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None

    def check(self) -> None:
        """Raises `RequestError` for flags that do not go together."""
        given = {"--processes": self.processes, "--process": self.process}
        if self.coordinator is None or self.coordinator == "auto":
            for flag, value in given.items():
                if value is not None:
                    raise RequestError(f"{flag}: needs --coordinator=HOST:PORT")
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal():
            raise RequestError(f"--coordinator: given {self.coordinator!r}; needs HOST:PORT, or auto")
        for flag, value in given.items():
            if value is None:
                raise RequestError(f"{flag}: not given; --coordinator={self.coordinator} needs it")
        if self.process >= self.processes:  # type: ignore[operator]
            raise RequestError(f"--process: given {self.process}; of {self.processes} the last is {self.processes - 1}")  # type: ignore[operator]


@dataclasses.dataclass(frozen=True)
class EngineFlags:
    """The flags of where runs are trained; see `cnnjax.study.ray_driver`.

    Attributes:
      name: a key of `cnnjax.study.engine.ENGINES`.
      cluster: address of a Ray cluster; None for what Ray finds, or else this machine alone.
      cpus, gpus, tpus: that each task is given; a GPU may be shared.
      retries: how often a run, or what is found out before them all, is sent again whose worker or node was lost.
      profile: whether a trace of the first run is kept; of this process alone.
    """

    name: str = "local"
    cluster: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    tpus: int = 0
    retries: int = 3
    profile: bool = False

    def check(self, *, many_hosts: bool) -> None:
        """Raises `RequestError` for flags that do not go together, or where Ray is not installed.

        Args:
          many_hosts: whether this is one process of many.
        """
        if self.name == "ray":
            if self.profile:
                raise RequestError("--profile: traces this process; needs --engine=local")
            if many_hosts:
                raise RequestError("--engine=ray: trains each run on one node; leave --coordinator out")
            if importlib.util.find_spec("ray") is None:
                raise RequestError("--engine=ray: Ray is not installed; pip install 'cnnjax[ray]'")
            return
        for field in dataclasses.fields(self)[1:-1]:
            if getattr(self, field.name) != field.default:
                raise RequestError(f"--{field.name}: needs --engine=ray")

    def resources(self) -> dict[str, float]:
        """What a node must have, by Ray's names."""
        asked = {"CPU": self.cpus, "GPU": self.gpus, "TPU": self.tpus}
        return {what: amount for what, amount in asked.items() if amount}


class WorkersLost(Exception):
    """What all runs wait for has lost its worker more often than `EngineFlags.retries` allows."""


@dataclasses.dataclass(frozen=True)
class Request:
    """The flags.

    Attributes:
      mode: a key of `cnnjax.study.command.MODES`.
      config: the experiment's file; empty if not given.
      workdir: the study's folder; empty if not given.
      changes: the fields set by `--config.a.b=value`.
      arms: the names given; None for all.
      seeds: the number given; None for the config's.
      top: of a screening, how many architectures are trained in full; None for all.
      sweep: what is swept, and how.
      shape: of the images that a network is described for, in words; None for the data set's.
      classes: with a shape, how many the network tells apart.
      hosts: whether this is one of many processes, and which.
      engine: where runs are trained.
      dry_run: whether what would be done is only printed.
    """

    mode: str
    config: str
    workdir: str
    changes: Mapping[str, str]
    arms: list[str] | None
    seeds: int | None
    top: int | None
    sweep: SweepFlags
    shape: list[str] | None
    classes: int
    hosts: HostFlags = HostFlags()
    engine: EngineFlags = EngineFlags()
    dry_run: bool = False

    def check(self) -> None:
        """Raises `RequestError` for flags that do not go together."""
        given = {"dry_run": self.dry_run, "profile": self.engine.profile}
        if self.mode != "run":
            for name, value in given.items():
                if value:
                    raise RequestError(f"--{name}: --mode={self.mode} trains nothing; leave it out, or use --mode=run")
        for name, named in (("arms", self.arms), ("seeds", self.seeds)):
            if self.mode == "report" and named is not None:
                raise RequestError(f"--{name}: --mode=report reports all runs; leave it out")
        self.hosts.check()
        self.engine.check(many_hosts=self.hosts.coordinator is not None)

    def experiment(self) -> Experiment:
        """The experiment that the flags name and change.

        Raises:
          RequestError: if none is named, or as `read_experiment` does.
        """
        if not self.config:
            raise RequestError("--config: not given; name an experiment's file, such as experiments/random_filters.py")
        changes = dict(self.changes)
        if self.seeds is not None:
            changes["study.seeds"] = str(self.seeds)
        return read_experiment(self.config, changes, self.arms)
