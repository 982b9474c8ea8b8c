"""Everything of one run before its first step: network, starting state, feeds, and the compiled program.

Runs that differ in values alone (seeds, random filters) share what is compiled.
"""

import dataclasses
from collections.abc import Hashable
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.config import Config, DataConfig
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
from cnnjax.ops.keys import stream_key
from cnnjax.train.devices import AXIS, replicate
from cnnjax.train.interruption import Interruption
from cnnjax.train.loop import Inputs, Plan, boundaries
from cnnjax.train.optimiser import make_optimiser
from cnnjax.train.program import Program, compile_program
from cnnjax.train.setup import Blueprint, InitFunction, count, init_function, make_blueprint, starting_values
from cnnjax.train.state import TrainState, initial_state
from cnnjax.train.step import Keys, Task, variables_of


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
class Assembly:
    """A run that can be trained.

    Attributes:
      program: compiled.
      state: before the first step, on all devices.
      inputs: on all devices.
      plan: its length and boundaries.
      steps_per_epoch: of the training split.
      blueprint: the network under its plan.
      from_features: whether the feeds hold the features of the frozen prefix instead of images.
    """

    program: Program
    state: TrainState
    inputs: Inputs
    plan: Plan
    steps_per_epoch: int
    blueprint: Blueprint
    from_features: bool


def begin(
    config: Config,
    dataset: Dataset,
    seed: int,
    shared: Shared,
    interruption: Interruption,
    saved: Saved,
    tell: Between,
    *,
    to_disk: bool,
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
      to_disk: whether features that memory does not hold are wanted too.

    Raises:
      Stopped: after a signal.
      RequestError: for filters that cannot be fitted.
    """
    blueprint = make_blueprint(config, dataset.summary, AXIS)

    def between(what: str, share: float) -> None:
        interruption.check()
        tell(what, share)

    params, stats = _start(config, dataset, seed, blueprint, shared, saved, between)
    splits = (dataset.train, dataset.validation, dataset.test)
    images = np.concatenate([split.images for split in splits])
    labels = np.concatenate([split.labels for split in splits])
    features = None
    if blueprint.parts.prefix is not None and not config.data.augment:
        features = _prefix_features(
            config, dataset.summary, blueprint, (params, stats), images, shared, between, to_disk=to_disk
        )
    if features is None:
        return Beginning(blueprint, params, stats, None, images, labels)
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
    *,
    to_disk: bool,
) -> np.ndarray | None:
    """What the frozen prefix makes of the images; None where memory does not hold it and the disk is not wanted."""
    model, prefix = blueprint.model, str(blueprint.parts.prefix)
    key = (config.model, config.data, prefix)
    if key not in shared.prefixes:
        shared.prefixes[key] = feature_function(model, prefix, summary.mean, summary.std)
    function, variables = shared.prefixes[key], variables_of(*start)
    shape, dtype = feature_shape(function, variables, summary.shape)
    whole = (len(images), *shape)
    if not to_disk and np.prod(whole) * dtype.itemsize > MOST_FEATURE_BYTES:
        return None
    stages = model.stage_names[: model.stage_names.index(prefix) + 1]
    inside = [{path: flat[path] for path in flat if path.split("/")[0] in stages} for flat in start]

    def fill(out: np.ndarray) -> None:
        def tell(share: float) -> None:
            between(f"computing features of {prefix}", share)

        compute_features(function, variables, images, config.train.eval_batch_size, out, tell)

    return shared.features.get(feature_key(key, *inside), whole, dtype, fill)


def assemble(
    config: Config,
    dataset: Dataset,
    seed: int,
    shared: Shared,
    interruption: Interruption,
    saved: Saved = MappingProxyType({}),
    tell: Between = lambda what, share: None,
) -> Assembly:
    """A run that is trained step by step; arguments and errors as in `begin`.

    Features of a frozen prefix that do not fit in memory are computed anew at each step.
    """
    summary = dataset.summary
    start = begin(config, dataset, seed, shared, interruption, saved, tell, to_disk=False)
    blueprint, params, stats = start.blueprint, start.params, start.stats
    parts = blueprint.parts
    inputs = _inputs(start, seed, summary.sizes["train"])

    steps_per_epoch = len(dataset.train) // config.train.batch_size
    steps = max(1, round(config.train.epochs * steps_per_epoch))
    optimiser = make_optimiser(config.optim, steps)
    trained = {path: params[path] for path in sorted(parts.trained)}
    moving = {path: stats[path] for path in sorted(parts.moving)}
    state = replicate(initial_state(trained, moving, optimiser))
    banks = frozenset((path, rule.combinations) for path, rule in blueprint.rules.items())
    key = (config.model, config.data, config.optim, config.train, parts, banks, start.after)
    if key not in shared.programs:
        task = Task(
            model=blueprint.model,
            frozen_modules=parts.modules,
            after=start.after,
            optimiser=optimiser,
            batch_size=config.train.batch_size,
            eval_batch_size=config.train.eval_batch_size,
            mean=summary.mean,
            std=summary.std,
            augmentation=_augmentation(config.data, summary),
            label_smoothing=config.optim.label_smoothing,
        )
        shared.programs[key] = compile_program(task, state, inputs.frozen, inputs.train, inputs.held_out)
    sizes = summary.sizes
    plan = Plan(
        steps=steps,
        boundaries=boundaries(steps, steps_per_epoch, config.train.eval_every),
        validation=(0, sizes["validation"]),
        test=(sizes["validation"], sizes["validation"] + sizes["test"]),
        eval_batch_size=config.train.eval_batch_size,
        save_every=config.train.save_every,
    )
    return Assembly(
        program=shared.programs[key],
        state=state,
        inputs=inputs,
        plan=plan,
        steps_per_epoch=steps_per_epoch,
        blueprint=blueprint,
        from_features=start.after is not None,
    )


def _augmentation(config: DataConfig, summary: DataSummary) -> Augmentation:
    return Augmentation(config.augment, config.max_shift, config.strength, summary.low, summary.high)


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


def _inputs(start: Beginning, seed: int, train_examples: int) -> Inputs:
    """All that a run reads, on all devices."""
    parts = start.blueprint.parts
    frozen = (
        {path: start.params[path] for path in sorted(parts.frozen)},
        {path: start.stats[path] for path in sorted(parts.fixed)},
    )

    def feed(chosen: slice) -> Feed:
        return replicate(Feed(jnp.asarray(start.examples[chosen]), jnp.asarray(start.labels[chosen])))

    return Inputs(
        frozen=replicate(frozen),
        train=feed(slice(train_examples)),
        held_out=feed(slice(train_examples, None)),
        keys=replicate(Keys(*(stream_key(seed, stream) for stream in Keys._fields))),
    )
