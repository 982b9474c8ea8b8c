"""Everything of one run before its first step: network, starting state, feeds, and the compiled program.

Runs that differ in values alone (seeds, random filters) share what is compiled.
"""

import dataclasses
import math
from collections.abc import Hashable, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from cnnjax.config import Config
from cnnjax.data.augmentation import Augmentation
from cnnjax.data.dataset import Dataset, DataSummary
from cnnjax.data.feed import Feed
from cnnjax.filters.features import (
    MOST_FEATURE_BYTES,
    FeatureFunction,
    FeatureStore,
    MemoryStore,
    compute_features,
    feature_function,
    feature_key,
    feature_shape,
)
from cnnjax.filters.greedy import Between, Look, look_function, plan_fittings
from cnnjax.filters.plan import Flat
from cnnjax.filters.saved import Saved
from cnnjax.models.tracing import abstract_variables
from cnnjax.ops.keys import stream_key
from cnnjax.train.devices import AXIS, replicate
from cnnjax.train.hyperparameters import hyperparameters, program_config
from cnnjax.train.interruption import Interruption
from cnnjax.train.loop import Plan, boundaries
from cnnjax.train.optimiser import make_optimiser
from cnnjax.train.population import Form, Slots, compile_population
from cnnjax.train.program import Program, compile_program
from cnnjax.train.setup import (
    Blueprint,
    InitFunction,
    Partition,
    build_model,
    count,
    init_function,
    make_blueprint,
    starting_values,
)
from cnnjax.train.state import TrainState, initial_state
from cnnjax.train.step import Inputs, Keys, Task, variables_of
from cnnjax.train.windows import compile_windows

_NO_FEED = Feed(np.zeros(0), np.zeros(0))


@dataclasses.dataclass(frozen=True)
class Shared:
    """What the runs of a study share, by what it depends on: what is compiled, and the features of frozen prefixes."""

    inits: dict[Hashable, InitFunction] = dataclasses.field(default_factory=dict)
    looks: dict[Hashable, Look] = dataclasses.field(default_factory=dict)
    prefixes: dict[Hashable, FeatureFunction] = dataclasses.field(default_factory=dict)
    programs: dict[Hashable, Program] = dataclasses.field(default_factory=dict)
    features: FeatureStore = dataclasses.field(default_factory=MemoryStore)


@dataclasses.dataclass(frozen=True)
class Beginning:
    """A run before its first step, on the host.

    Attributes:
      blueprint: the network under its plan.
      params, stats: all variables by path.
      after: the stage whose output `examples` are; None if they are the images.
      examples: of the training, validation and test split, one after another.
      labels: theirs.
    """

    blueprint: Blueprint
    params: Flat
    stats: Flat
    after: str | None
    examples: np.ndarray
    labels: np.ndarray


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


def begin(
    config: Config,
    dataset: Dataset,
    seed: int,
    shared: Shared,
    interruption: Interruption,
    saved: Saved,
    tell: Between,
) -> Beginning:
    """The starting values of a run, and the features of its frozen prefix.

    Args:
      config: checked by `cnnjax.train.setup.check_request`.
      dataset: the config's.
      seed: of the run.
      shared: added to.
      interruption: looked at between two pieces of work.
      saved: all saved sources that the plan names.
      tell: of the fitting of filters, and of the features.

    Raises:
      Stopped: after a signal.
      RequestError: for filters that cannot be fitted.
    """
    blueprint = make_blueprint(config, dataset.summary, AXIS)

    def between(what: str, share: float) -> None:
        interruption.check()
        tell(what, share)

    params, stats = _start(config, dataset, seed, blueprint, shared, saved, between)
    images, labels = dataset.together.images, dataset.together.labels
    if blueprint.parts.prefix is None or config.data.augment:
        return Beginning(blueprint, params, stats, None, images, labels)
    features = _prefix_features(config, dataset.summary, blueprint, (params, stats), images, shared, between)
    return Beginning(blueprint, params, stats, blueprint.parts.prefix, features, labels)


def starting_variables(config: Config, dataset: Dataset, seed: int, saved: Saved) -> dict[str, Any]:
    """`params` and `batch_stats`, nested, of a run before its first step; arguments and errors as in `begin`."""
    blueprint = make_blueprint(config, dataset.summary, AXIS)
    start = _start(config, dataset, seed, blueprint, Shared(), saved, lambda what, share: None)
    return jax.device_get(variables_of(*start))


def _start(
    config: Config,
    dataset: Dataset,
    seed: int,
    blueprint: Blueprint,
    shared: Shared,
    saved: Saved,
    between: Between,
) -> tuple[Flat, Flat]:
    """The starting parameters and batch statistics, by what is compiled for all runs of this network and data."""
    summary, model = dataset.summary, blueprint.model
    which = (config.model, config.data)
    if which not in shared.inits:
        shared.inits[which] = init_function(model, summary)
    fittings = plan_fittings(blueprint.rules, blueprint.places)
    for fitting in fittings:
        layer = fitting.place.layer
        if (which, layer) not in shared.looks:
            shared.looks[which, layer] = look_function(model, fitting.place, summary.mean, summary.std)
    looks = {fitting.place.layer: shared.looks[which, fitting.place.layer] for fitting in fittings}
    init = shared.inits[which](seed)
    return starting_values(blueprint, init, seed, dataset.train.images, fittings, looks, config.fit, saved, between)


def _prefix_features(
    config: Config,
    summary: DataSummary,
    blueprint: Blueprint,
    start: tuple[Flat, Flat],
    images: np.ndarray,
    shared: Shared,
    between: Between,
) -> np.ndarray:
    """What the frozen prefix makes of the images."""
    model, prefix = blueprint.model, str(blueprint.parts.prefix)
    key = (config.model, config.data, prefix)
    if key not in shared.prefixes:
        shared.prefixes[key] = feature_function(model, prefix, summary.mean, summary.std)
    function, variables = shared.prefixes[key], variables_of(*start)
    shape, dtype = feature_shape(function, variables, summary.shape)
    stages = model.stage_names[: model.stage_names.index(prefix) + 1]
    inside = [{path: flat[path] for path in flat if path.split("/")[0] in stages} for flat in start]

    def fill(out: np.ndarray) -> None:
        def tell(share: float) -> None:
            between(f"computing features of {prefix}", share)

        compute_features(function, variables, images, config.train.eval_batch_size, out, tell)

    return shared.features.get(feature_key((key, summary), *inside), (len(images), *shape), dtype, fill)


def features_fit(config: Config, summary: DataSummary) -> bool:
    """Whether memory holds the features of the run's frozen prefix, or it has none that are kept."""
    blueprint = make_blueprint(config, summary)
    prefix = blueprint.parts.prefix
    if prefix is None or config.data.augment:
        return True
    function = feature_function(blueprint.model, prefix, summary.mean, summary.std)
    shape, dtype = feature_shape(function, dict(abstract_variables(blueprint.model, summary.shape)), summary.shape)
    return sum(summary.sizes.values()) * math.prod(shape) * dtype.itemsize <= MOST_FEATURE_BYTES


def make_member(
    config: Config,
    dataset: Dataset,
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
    examples = Feed(start.examples, start.labels)
    banks = frozenset((path, rule.combinations) for path, rule in blueprint.rules.items())
    return Member(
        shape=(program.model, program.data, program.optim, program.train, parts, banks, start.after),
        task=_task(program, summary, parts, start.after, axis),
        state=initial_state(trained, moving, make_optimiser(config.optim, numbers)),
        inputs=Inputs(frozen, *_feeds(examples, sizes["train"]), keys, numbers),
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


def assemble(config: Config, dataset: Dataset, seed: int, shared: Shared, interruption: Interruption) -> Assembly:
    """A run by itself, its batch spread over the devices; arguments and errors as in `begin`."""
    return assemble_alone(make_member(config, dataset, seed, shared, interruption), shared)


def assemble_alone(member: Member, shared: Shared) -> Assembly:
    """A run whose batch is spread over the devices; `shared` is added to."""
    state = replicate(member.state)
    if member.in_windows:
        own = replicate(member.inputs._replace(train=_NO_FEED, held_out=_NO_FEED))
        inputs = own._replace(train=member.inputs.train, held_out=member.inputs.held_out)
    else:
        inputs = replicate(member.inputs)
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


def sizes_of(blueprint: Blueprint) -> dict[str, int]:
    """How many numbers there are in all `parameters`, in those that are trained, and in the head's input."""
    params = blueprint.abstract["params"]
    stage = blueprint.model.stage_names[-1]
    inside = [place for place in blueprint.places.values() if place.path.startswith(f"{stage}/")]
    return {
        "features": inside[-1].fan_in if inside else 0,
        "parameters": count(params, frozenset(blueprint.rules)),
        "parameters_trained": count(params, blueprint.parts.trained),
    }


def best_variables(state: TrainState, frozen: tuple[Flat, Flat]) -> dict[str, Flat]:
    """All `params` and `batch_stats` of the best evaluation so far, by path."""
    return {
        "params": {**frozen[0], **state.best.trained},
        "batch_stats": {**frozen[1], **state.best.stats},
    }
