"""What a process does that does not lead: it trains every run that the leader trains, and writes nothing."""

import contextlib
import dataclasses
import functools
import logging
from typing import Any

from etils import epath

from cnnjax.config import from_dict
from cnnjax.data.streamed import open_dataset
from cnnjax.study.feature_files import FileStore
from cnnjax.study.run import test_metrics
from cnnjax.study.sources import read_sources
from cnnjax.train import hosts
from cnnjax.train.assembly import assemble_alone, make_member
from cnnjax.train.beginning import Shared
from cnnjax.train.compilation_cache import keep_compilations
from cnnjax.train.interruption import Interruption
from cnnjax.train.loop import Listeners, fit


def follow(workdir: str, interruption: Interruption) -> int:
    """Trains what the leader says until it is done, and returns the exit status that it says then.

    Args:
      workdir: of the study, from where filters of other runs are taken.
      interruption: looked at between two pieces of work.
    """
    logging.getLogger("cnnjax").setLevel(logging.ERROR)
    keep_compilations()
    follower = _Follower(epath.Path(workdir).expanduser(), interruption)
    with interruption.nothing_to_save():
        order = hosts.next_order()
    while "status" not in order:
        order = follower.obey(order)
    return int(order["status"])


class _Follower:
    """What is kept from one run to the next."""

    def __init__(self, folder: epath.Path, interruption: Interruption) -> None:
        self._folder, self._interruption = folder, interruption
        self._features = FileStore()
        self._shared = Shared(features=self._features)
        self._open = functools.cache(open_dataset)
        self._seed: int | None = None

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Trains a run, or as much of it as the leader does, and returns the next order."""
        try:
            self._train(order)
        except hosts.Abandoned as elsewhere:
            return self._after(elsewhere)
        except Exception as error:
            hosts.require_all()
            return self._after_failure(error)
        with self._interruption.nothing_to_save():
            return hosts.next_order()

    def _after(self, elsewhere: hosts.Abandoned) -> dict[str, Any]:
        if elsewhere.subject != "order":
            raise elsewhere
        return hosts.acknowledge(elsewhere.value)

    def _after_failure(self, error: Exception) -> dict[str, Any]:
        """A run that has failed here may have failed at the leader too, which then goes on to another."""
        try:
            return hosts.next_order(at_once=True)
        except RuntimeError:
            hosts.fail(f"{type(error).__name__}: {error}".splitlines()[0])
            raise

    def _train(self, order: dict[str, Any]) -> None:
        config, seed = from_dict(order["config"]), order["seed"]
        with self._interruption.nothing_to_save():
            if seed != self._seed:
                self._features.forget_unused()
                self._seed = seed
            dataset = self._open(config.data)
            sources = read_sources(config.filters, config.model.name, seed, self._folder)
            member = make_member(config, dataset, seed, self._shared, self._interruption, sources)
            assembly = assemble_alone(member, self._shared)
        with contextlib.closing(member.streams) if member.streams else contextlib.nullcontext():
            step, stop = hosts.agree("start", [0, 0], together=True)
            state = assembly.program.join([hosts.from_leader(member.state)])
            plan = dataclasses.replace(member.plan, stop=stop)
            state = fit(assembly.program, state, [step], assembly.inputs, [plan], _NOBODY, self._interruption)
            if hosts.agree("test", False):
                test_metrics(assembly, state, self._interruption)


def _ignore(*_: object) -> None:
    """The leader tells."""


_NOBODY = Listeners(None, _ignore, _ignore, _ignore, _ignore)
