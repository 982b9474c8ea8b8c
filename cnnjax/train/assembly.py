"""Runs that can be trained: starting state, feeds, and the compiled program; of one alone, or of several together."""

import dataclasses
from collections.abc import Hashable, Sequence
from types import MappingProxyType

import jax
import numpy as np

from cnnjax.config import Config
from cnnjax.data.augmentation import Augmentation
from cnnjax.data.dataset import DataSummary
from cnnjax.data.feed import Feed
from cnnjax.data.streamed import AnyDataset, StreamedDataset
from cnnjax.filters.features import MOST_FEATURE_BYTES
from cnnjax.filters.greedy import Between
from cnnjax.filters.plan import Flat
from cnnjax.filters.saved import Saved
from cnnjax.ops.keys import stream_key
from cnnjax.train.beginning import Shared, begin
from cnnjax.train.devices import AXIS, distribute, replicate
from cnnjax.train.hosts import from_leader
from cnnjax.train.hyperparameters import hyperparameters, program_config
from cnnjax.train.interruption import Interruption
from cnnjax.train.loop import Plan, boundaries
from cnnjax.train.optimiser import make_optimiser
from cnnjax.train.population import Form, Slots, compile_population
from cnnjax.train.program import Program, compile_program
from cnnjax.train.setup import Blueprint, Partition, build_model
from cnnjax.train.state import TrainState, initial_state
from cnnjax.train.step import Inputs, Keys, Task
from cnnjax.train.streaming import Streams, batch_feeds, compile_streamed
from cnnjax.train.windows import compile_windows

_NO_FEED = Feed(np.zeros(0), np.zeros(0))


@dataclasses.dataclass(frozen=True)
class Member:
    """A run before its first step, as its steps will want it; nothing is on the devices for it alone.

    Attributes:
      shape: equal for runs that one program can train, together or one after another.
      task: the static part of that program.
      state: before the first step.
      inputs: of its steps.
      plan: its length and boundaries.
      steps_per_epoch: of the training split.
      blueprint: the network under its plan.
      from_features: whether the feeds hold the features of the frozen prefix instead of images.
      in_windows: whether these are more than memory holds, so that it is trained alone, window by window.
      streams: the batches of a run whose images are read while it trains, alone; None for any other.
    """

    shape: Hashable
    task: Task
    state: TrainState
    inputs: Inputs
    plan: Plan
    steps_per_epoch: int
    blueprint: Blueprint
    from_features: bool
    in_windows: bool
    streams: Streams | None = None


@dataclasses.dataclass(frozen=True)
class Assembly:
    """Runs that can be trained: one alone, or several together.

    Attributes:
      program: compiled.
      state: before the first step, on the devices.
      inputs: likewise.
      members: the runs.
    """

    program: Program
    state: TrainState
    inputs: Inputs
    members: tuple[Member, ...]

    @property
    def plans(self) -> list[Plan]:
        """Of the runs."""
        return [member.plan for member in self.members]


def make_member(
    config: Config,
    dataset: AnyDataset,
    seed: int,
    shared: Shared,
    interruption: Interruption,
    saved: Saved = MappingProxyType({}),
    tell: Between = lambda what, share: None,
    *,
    axis: str | None = AXIS,
) -> Member:
    """A run that is trained step by step; arguments and errors as in `begin`.

    Features of a frozen prefix that memory does not hold are read window by window; see `cnnjax.train.windows`.

    Args:
      axis: that its batch is spread over; None for a run that is trained together with others.
    """
    summary, sizes = dataset.summary, dataset.summary.sizes
    start = begin(config, dataset, seed, shared, interruption, saved, tell)
    blueprint, params, stats = start.blueprint, start.params, start.stats
    parts, train = blueprint.parts, config.train

    steps_per_epoch = sizes["train"] // train.batch_size
    steps = max(1, round(train.epochs * steps_per_epoch))
    program = program_config(config)
    numbers = hyperparameters(config, steps)
    frozen = (
        {path: params[path] for path in sorted(parts.frozen)},
        {path: stats[path] for path in sorted(parts.fixed)},
    )
    trained = {path: params[path] for path in sorted(parts.trained)}
    moving = {path: stats[path] for path in sorted(parts.moving)}
    keys = Keys(*(stream_key(seed, stream) for stream in Keys._fields))
    streams = None
    if not isinstance(dataset, StreamedDataset) or start.after:
        feeds = _feeds(Feed(start.examples, start.labels), sizes["train"])
    else:
        feeds = batch_feeds(dataset, train.batch_size, train.eval_batch_size)
        streams = Streams(dataset, seed, train.batch_size, train.eval_batch_size, config.data.workers)
    banks = frozenset((path, rule.combinations) for path, rule in blueprint.rules.items())
    return Member(
        shape=(program.model, program.data, program.optim, program.train, parts, banks, start.after),
        task=_task(program, summary, parts, start.after, axis),
        state=initial_state(trained, moving, make_optimiser(config.optim, numbers)),
        inputs=Inputs(frozen, *feeds, keys, numbers),
        plan=Plan(
            steps=steps,
            stop=steps,
            boundaries=boundaries(steps, steps_per_epoch, train.eval_every),
            validation=(0, sizes["validation"]),
            test=(sizes["validation"], sizes["validation"] + sizes["test"]),
            eval_batch_size=train.eval_batch_size,
            save_every=train.save_every,
        ),
        steps_per_epoch=steps_per_epoch,
        blueprint=blueprint,
        from_features=start.after is not None,
        in_windows=start.after is not None and start.examples.nbytes > MOST_FEATURE_BYTES,
        streams=streams,
    )


def _task(program: Config, summary: DataSummary, parts: Partition, after: str | None, axis: str | None) -> Task:
    return Task(
        axis=axis,
        model=build_model(program.model, summary, axis),
        frozen_modules=parts.modules,
        after=after,
        optim=program.optim,
        batch_size=program.train.batch_size,
        eval_batch_size=program.train.eval_batch_size,
        mean=summary.mean,
        std=summary.std,
        augmentation=Augmentation(program.data.augment, program.data.max_shift, summary.low, summary.high),
        accumulate=program.train.accumulate,
        precision=program.train.precision,
        remat=program.train.remat,
        deterministic=program.train.deterministic,
    )


def _feeds(examples: Feed, train: int) -> tuple[Feed, Feed]:
    """The training examples, and those held out; views."""
    return Feed(*(part[:train] for part in examples)), Feed(*(part[train:] for part in examples))


def assemble(config: Config, dataset: AnyDataset, seed: int, shared: Shared, interruption: Interruption) -> Assembly:
    """A run by itself, its batch spread over the devices; arguments and errors as in `begin`."""
    return assemble_alone(make_member(config, dataset, seed, shared, interruption), shared)


def assemble_alone(member: Member, shared: Shared) -> Assembly:
    """A run whose batch is spread over the devices; `shared` is added to."""
    state, feeds = replicate(member.state), (member.inputs.train, member.inputs.held_out)
    # Filters that each process has fitted may differ in the last bit.
    frozen = from_leader(member.inputs.frozen)
    own = replicate(member.inputs._replace(frozen=frozen, train=_NO_FEED, held_out=_NO_FEED))
    if member.streams:
        feeds = distribute(feeds)
    elif not member.in_windows:
        feeds = replicate(feeds)
    inputs = own._replace(train=feeds[0], held_out=feeds[1])
    if member.streams:
        if member.shape not in shared.streamed:
            shared.streamed[member.shape] = compile_streamed(member.task, state, inputs)
        program = shared.streamed[member.shape].bind(member.task, member.streams)
        return Assembly(program, state, inputs, (member,))
    if member.shape not in shared.programs:
        compile_for = compile_windows if member.in_windows else compile_program
        shared.programs[member.shape] = compile_for(member.task, state, inputs)
    return Assembly(shared.programs[member.shape], state, inputs, (member,))


def assemble_together(members: Sequence[Member], form: Form, shared: Shared, slots: int = 0) -> Assembly:
    """Runs of one shape, made with no axis, trained in one program of at least so many slots; `shared` is added to."""
    places = Slots(len(members), slots, jax.device_count())
    first, *others = (member.inputs for member in members)
    state = places.join([member.state for member in members])
    own = places.join([member.inputs._replace(train=_NO_FEED, held_out=_NO_FEED) for member in members])
    if all(_same(first.train, other.train) for other in others):
        feeds = replicate((first.train, first.held_out))
    else:
        feeds = places.join([(inputs.train, inputs.held_out) for inputs in (first, *others)])
    inputs = own._replace(train=feeds[0], held_out=feeds[1])
    which = (members[0].shape, places, form, feeds[0].labels.ndim)
    if which not in shared.programs:
        shared.programs[which] = compile_population(members[0].task, state, inputs, places, form)
    return Assembly(shared.programs[which], state, inputs, tuple(members))


def _same(feed: Feed, other: Feed) -> bool:
    """Whether two feeds on the host are views of the same memory."""
    return all(
        np.asarray(a).__array_interface__ == np.asarray(b).__array_interface__ for a, b in zip(feed, other, strict=True)
    )


def best_variables(state: TrainState, frozen: tuple[Flat, Flat]) -> dict[str, Flat]:
    """All `params` and `batch_stats` of the best evaluation so far, by path."""
    return {
        "params": {**frozen[0], **state.best.trained},
        "batch_stats": {**frozen[1], **state.best.stats},
    }
