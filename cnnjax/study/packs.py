"""Which runs of a study are trained together."""

import dataclasses
import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from cnnjax.config import Config, DataConfig, FilterRule, FitConfig, MeasureConfig, StudyConfig
from cnnjax.data.dataset import DataSummary
from cnnjax.data.streamed import AnyDataset, StreamedDataset
from cnnjax.study.arms import needed_arms
from cnnjax.study.measured_once import measured_once, these_devices
from cnnjax.study.workdir import ALONE, Choice, Unit, read_status
from cnnjax.train.beginning import features_fit
from cnnjax.train.devices import device_memory
from cnnjax.train.hyperparameters import program_config
from cnnjax.train.interruption import Interruption
from cnnjax.train.packing import LEAST_GAIN, Gain, expected_gain, measure_gains, most_members
from cnnjax.train.population import Form
from cnnjax.train.processes import several
from cnnjax.train.setup import build_model
from cnnjax.train.speed import step_multiply_adds

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Pack:
    """Runs that are trained together.

    Attributes:
      units: the runs.
      form: how a device computes them; None for a run alone, whose batch is spread over the devices.
      slots: of the program, at least as many as units.
    """

    units: tuple[Unit, ...]
    form: Form | None = None
    slots: int = 1


def choose_packs(
    units: Sequence[Unit],
    arms: Mapping[str, Config],
    datasets: Mapping[DataConfig, AnyDataset],
    before: Mapping[str, Choice],
    interruption: Interruption,
) -> tuple[list[Pack], dict[str, Choice]]:
    """The packs that the units are trained in, in an order in which each arm comes behind those it takes filters from.

    Args:
      units: to be trained.
      arms: all configs of the study.
      datasets: by the configs' data.
      before: what was chosen earlier for runs of a shape (`shape_of`); it is kept, but that packs grow where there are
        more runs to train and none of them has begun.
      interruption: looked at while the devices are measured.

    Returns:
      The packs, and all choices.
    """
    groups: dict[tuple[int, str], list[Unit]] = {}
    for unit in units:
        groups.setdefault((_depth(unit.arm, arms), shape_of(arms[unit.arm])), []).append(unit)
    choices, packs = dict(before), []
    for (depth, shape), group in groups.items():
        config = arms[group[0].arm]
        if len(group) > 1 and config.head.name == "sgd" and not several():
            if shape not in choices:
                choices[shape] = _choose(config, datasets[config.data], len(group), interruption)
            elif len(group) > choices[shape].members and not any(map(_has_begun, group)):
                choices[shape] = _grown(choices[shape], config, datasets[config.data].summary, len(group))
        choice = ALONE if several() else choices.get(shape, ALONE)
        for first in range(0, len(group), choice.members):
            part = tuple(group[first : first + choice.members])
            packs.append((depth, Pack(part) if choice == ALONE else Pack(part, choice.form, choice.members)))
    together = any(pack.form for _, pack in packs)
    packs.sort(key=lambda it: (it[0] if together else 0, units.index(it[1].units[0])))
    return [pack for _, pack in packs], choices


def shape_of(config: Config) -> str:
    """A name that is the same for configs whose runs one program can train."""
    rules = tuple(FilterRule(r.pattern, "init", r.state, r.combinations) for r in config.filters)
    study = StudyConfig(pack=config.study.pack)
    program = dataclasses.replace(
        program_config(config), filters=rules, fit=FitConfig(), measures=MeasureConfig(), study=study
    )
    return hashlib.sha256(repr(program).encode()).hexdigest()[:16]


def _depth(arm: str, arms: Mapping[str, Config]) -> int:
    """How long the chain of arms is that an arm takes filters from."""
    return 1 + max((_depth(needed, arms) for needed in needed_arms(arms[arm].filters)), default=0)


def _choose(config: Config, dataset: AnyDataset, runs: int, interruption: Interruption) -> Choice:
    """For so many runs. A pack that is resumed with fewer keeps its slots: the same program computes the same bits."""
    wanted = config.study.pack
    if wanted == 1 or isinstance(dataset, StreamedDataset) or not features_fit(config, dataset.summary):
        return ALONE
    gains = backend_gains(interruption)
    form, gain = expected_gain(gains, _multiply_adds(config, dataset.summary))
    if wanted == "auto" and gain < LEAST_GAIN:
        return ALONE
    return _sized(config, dataset.summary, form, runs)


def _sized(config: Config, summary: DataSummary, form: Form, runs: int) -> Choice:
    """Packs of one size, as few as there can be."""
    wanted = config.study.pack
    most = most_members(config, summary, form, device_memory()) if wanted == "auto" else wanted
    packs = math.ceil(runs / most)
    return Choice(math.ceil(runs / packs), form) if packs < runs else ALONE


def _grown(before: Choice, config: Config, summary: DataSummary, runs: int) -> Choice:
    if before.form is None:
        return before
    return max(before, _sized(config, summary, before.form, runs), key=lambda choice: choice.members)


def _has_begun(unit: Unit) -> bool:
    return read_status(unit).get("state") in ("running", "paused")


def _multiply_adds(config: Config, summary: DataSummary) -> int:
    return step_multiply_adds(build_model(config.model, summary), summary.shape, config.train.batch_size)


def backend_gains(interruption: Interruption) -> list[Gain]:
    """What runs gain from being trained together on these devices: measured once."""

    def measure() -> list[dict[str, Any]]:
        gains = measure_gains(interruption)
        told = ", ".join(f"{gain.ratio:.2f} at {gain.multiply_adds / 1e6:.0f} M multiply-adds a step" for gain in gains)
        devices = these_devices()
        log.info("runs together beside one after another on %s: %s times as fast (%s)", devices, told, gains[0].form)
        return [dataclasses.asdict(gain) for gain in gains]

    return measured_once("packing", lambda kept: [Gain(**gain) for gain in kept], measure)
