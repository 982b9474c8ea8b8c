"""Trains a study's runs on a Ray cluster: each pack is a task, sent again when its worker or its node is lost."""

import dataclasses
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from cnnjax.config import DataConfig, RequestError
from cnnjax.data.streamed import AnyDataset
from cnnjax.study.arms import needed_arms
from cnnjax.study.files import write_json
from cnnjax.study.packs import Pack, shape_of
from cnnjax.study.progress import PackProgress, StudyProgress
from cnnjax.study.ray_worker import Order, Survey, check, survey, train
from cnnjax.study.request import EngineFlags, WorkersLost
from cnnjax.study.run import Extent
from cnnjax.study.runner import announce
from cnnjax.study.workdir import Study, Unit, read_status, write_study
from cnnjax.train.interruption import Interruption

log = logging.getLogger(__name__)

_TO_ANSWER = 10.0  # seconds that a cluster has to be there
_POLL = 1.0  # seconds between two looks at the runs' statuses
_TO_SAVE = 60.0  # seconds that runs have to save when they are cancelled
_PASSED = ("TFDS_DATA_DIR", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR")
_OF_ITS_SHARE = 0.9  # of a GPU's memory that a worker is given; the rest is for what lies outside JAX's own


@dataclasses.dataclass(frozen=True)
class RayCluster:
    """The cluster that `connect` has joined, for a `cnnjax.study.engine.Engine`.

    All nodes must see the study's folder under the same path. A task whose worker or node is lost is sent again, a run
    goes on from its checkpoint then.
    """

    flags: EngineFlags
    _passed: set[str] = dataclasses.field(default_factory=set, init=False)

    def check(self, study: Study, units: Sequence[Unit], datasets: Mapping[DataConfig, AnyDataset]) -> None:
        """Checks the units' configs on a node, of those of one shape one, once; this machine's devices may be others.

        Raises:
          RequestError: if it lacks their data, or its devices cannot train on them.
          WorkersLost: if it was lost, as were those that were asked after it.
        """
        shapes = {shape_of(study.experiment.arms[unit.arm]): unit.arm for unit in units}
        if new := [shape for shape in shapes if shape not in self._passed]:
            arms = {shapes[shape]: study.experiment.arms[shapes[shape]] for shape in new}
            order = Order(arms, str(study.folder.resolve()), str(Path.cwd()))
            _ask("the check of the request", check, self.flags, order)
            self._passed.update(new)

    def run(
        self,
        study: Study,
        units: list[Unit],
        datasets: Mapping[DataConfig, AnyDataset],
        console: Console,
        interruption: Interruption,
        extent: Extent,
    ) -> Study:
        """Runs the units, as many at once as there is room for; otherwise as `cnnjax.study.runner.run_study`. A run
        that is lost more than `flags.retries` times has failed.

        Raises:
          WorkersLost: as `check`.
          DiskFull, Stopped: as `run_study`, once the other runs have saved.
        """
        arms, folder = study.experiment.arms, study.folder.resolve()
        units = [dataclasses.replace(unit, folder=folder / unit.folder.relative_to(study.folder)) for unit in units]
        order = Order(arms, str(folder), str(Path.cwd()))
        with interruption.nothing_to_save():
            what = "the choice of what is trained together"
            surveyed: Survey = _ask(what, survey, self.flags, order, units, dict(study.packs))
            devices = f"{surveyed.machine['devices']} for each run, {len(_nodes())} nodes of a Ray cluster"
            study = dataclasses.replace(study, packs=surveyed.choices, machine={**surveyed.machine, "devices": devices})
            write_study(study)
        for pack in surveyed.packs:
            announce(pack, arms, datasets)
        with StudyProgress(console, units, later=extent.later) as progress:
            tasks = _Tasks(self.flags, order, extent, progress, surveyed.packs)
            try:
                while tasks.go_on():
                    interruption.check()
            except BaseException:
                tasks.cancel()
                raise
        return study


@dataclasses.dataclass
class _Sent:
    """A pack at the cluster.

    Attributes:
      losses: how often its worker was lost.
      written: when its runs' statuses were last written, before it was sent.
      progress: once a worker has begun.
    """

    pack: Pack
    losses: int
    written: list[float]
    progress: PackProgress | None = None


class _Tasks:
    """The packs that wait for others, and those at the cluster."""

    def __init__(
        self, flags: EngineFlags, order: Order, extent: Extent, progress: StudyProgress, packs: list[Pack]
    ) -> None:
        self._flags, self._order, self._extent, self._progress = flags, order, extent, progress
        self._waiting, self._sent = list(packs), dict[ray.ObjectRef, _Sent]()

    def go_on(self) -> bool:
        """Sends what need not wait, looks at what is at work, and takes in what has ended; false once all is done."""
        for pack in [pack for pack in self._waiting if not self._must_wait(pack)]:
            self._waiting.remove(pack)
            self._send(pack)
        ended, _ = ray.wait(list(self._sent), timeout=_POLL)
        for sent in self._sent.values():
            self._look(sent)
        for reference in ended:
            self._take_in(reference, self._sent.pop(reference))
        return bool(self._waiting or self._sent)

    def cancel(self) -> None:
        """Ends what is at the cluster; runs in progress save first."""
        if self._sent:
            log.warning("%d at the cluster: each saves and stops", len(self._sent))
            for reference in self._sent:
                ray.cancel(reference)
            ray.wait(list(self._sent), num_returns=len(self._sent), timeout=_TO_SAVE)
        ray.shutdown()

    def _must_wait(self, pack: Pack) -> bool:
        """Whether it takes filters from runs that are still to be trained."""
        packs = [*self._waiting, *(sent.pack for sent in self._sent.values())]
        to_do = {(unit.arm, unit.seed) for other in packs for unit in other.units}
        plans = ((unit.seed, self._order.arms[unit.arm].filters) for unit in pack.units)
        return any((arm, seed) in to_do for seed, plan in plans for arm in needed_arms(plan))

    def _send(self, pack: Pack, losses: int = 0) -> None:
        written = [_written(unit) for unit in pack.units]
        reference = _task(train, self._flags).remote(self._order, pack, self._extent)
        self._sent[reference] = _Sent(pack, losses, written)

    def _look(self, sent: _Sent) -> None:
        units = sent.pack.units
        if [_written(unit) for unit in units] == sent.written:
            return
        if sent.progress is None:
            sent.progress = self._progress.begin(*units)
        statuses = [read_status(unit) for unit in units]
        shares = [status["step"] / status["steps"] for status in statuses if status.get("steps")]
        if shares:
            sent.progress.advance(sum(shares) / len(units))

    def _take_in(self, reference: "ray.ObjectRef", sent: _Sent) -> None:
        progress = sent.progress or self._progress.begin(*sent.pack.units)
        try:
            outcomes = _value(reference)
        except ray.exceptions.RayError as error:
            self._after_loss(sent, progress, type(error).__name__)
        else:
            progress.end(*(outcomes[unit] for unit in sent.pack.units))

    def _after_loss(self, sent: _Sent, progress: PackProgress, error: str) -> None:
        losses = sent.losses + 1
        if losses <= self._flags.retries:
            _tell_of_loss(progress.name, error, losses, self._flags)
            progress.abandon()
            self._send(sent.pack, losses)
            return
        reason = f"its worker was lost {losses} times ({error})"
        for unit in sent.pack.units:
            unit.folder.mkdir(parents=True, exist_ok=True)
            write_json(unit.folder / "status.json", {"state": "failed", "error": reason})
        progress.end(*[f"failed ({reason})"] * len(sent.pack.units))


def connect(flags: EngineFlags) -> None:
    """Joins the cluster, or starts one of this machine alone, as Ray does where it is told of none.

    Raises:
      RequestError: if it cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    environment = {"env_vars": worker_environment(flags)}
    try:
        _knock(flags.cluster or "")
        ray.init(flags.cluster, runtime_env=environment, log_to_driver=False, configure_logging=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise RequestError(f"--cluster: {flags.cluster or 'a cluster'} cannot be reached: {error}") from None
    wanted = flags.resources()
    if not any(all(node["Resources"].get(what, 0) >= amount for what, amount in wanted.items()) for node in _nodes()):
        asked = ", ".join(f"{amount:g} {what}" for what, amount in wanted.items())
        log.warning("no node of the cluster has %s, which each run asks for; waiting for one", asked)


def _knock(address: str) -> None:
    """Raises OSError where nothing answers at HOST:PORT, which Ray would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_TO_ANSWER).close()


def worker_environment(flags: EngineFlags) -> dict[str, str]:
    """What workers have in their environment beside that of their node, which knows nothing of this process's."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    if not 0 < flags.gpus < 1:
        return passed
    # Each worker would take three quarters of the GPU. JAX refuses both names of the setting at once.
    share = f"{_OF_ITS_SHARE * flags.gpus:.3g}"
    return {**passed, "XLA_CLIENT_MEM_FRACTION": share, "XLA_PYTHON_CLIENT_MEM_FRACTION": ""}


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _task(function: Callable[..., Any], flags: EngineFlags) -> Any:
    """A task that is not retried by Ray, which would not say so."""
    resources = {} if not flags.tpus else {"TPU": flags.tpus}
    return ray.remote(function).options(num_cpus=flags.cpus, num_gpus=flags.gpus, resources=resources, max_retries=0)


def _ask(what: str, function: Callable[..., Any], flags: EngineFlags, *arguments: Any) -> Any:
    """What a task returns, which is sent again as often as a run is.

    Raises:
      WorkersLost: if its worker was lost too often.
      Exception: that it raised.
    """
    losses = 0
    while True:
        try:
            return _value(_task(function, flags).remote(*arguments))
        except ray.exceptions.RayError as error:
            losses, name = losses + 1, type(error).__name__
            if losses > flags.retries:
                raise WorkersLost(f"{what} has failed: its worker was lost {losses} times ({name})") from None
            _tell_of_loss(what, name, losses, flags)


def _tell_of_loss(what: str, error: str, losses: int, flags: EngineFlags) -> None:
    log.warning("%s: its worker was lost (%s); sent again, %d of %d", what, error, losses, flags.retries)


def _value(reference: "ray.ObjectRef") -> Any:
    """What a task returned.

    Raises:
      RayError: if its worker was lost.
      Exception: that it raised.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


def _written(unit: Unit) -> float:
    path = unit.folder / "status.json"
    return path.stat().mtime if path.exists() else 0.0
