"""Everything of one run before its first step: network, starting state, feeds, and the compiled program.

Runs that differ in values alone (seeds, random filters) share what is compiled.
"""

import dataclasses
from collections.abc import Hashable
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnnjax.config import Config
from cnnjax.data.dataset import Dataset, Split
from cnnjax.data.feed import Feed
from cnnjax.filters.features import FeatureFunction, compute_features, feature_function, fits
from cnnjax.filters.plan import Flat
from cnnjax.models.network import Network
from cnnjax.ops.keys import stream_key
from cnnjax.train.devices import AXIS, replicate
from cnnjax.train.interruption import Interruption
from cnnjax.train.loop import Inputs, Plan, boundaries
from cnnjax.train.optimiser import make_optimiser
from cnnjax.train.program import Program, compile_program
from cnnjax.train.setup import (
    Partition,
    StartingFunction,
    abstract_variables,
    build_model,
    count,
    partition,
    rules_of,
    starting_function,
)
from cnnjax.train.state import TrainState, initial_state
from cnnjax.train.step import Keys, Task, variables_of


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the runs of a study share, by what it depends on."""

    starts: dict[Hashable, StartingFunction] = dataclasses.field(default_factory=dict)
    features: dict[Hashable, FeatureFunction] = dataclasses.field(default_factory=dict)
    programs: dict[Hashable, Program] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Assembly:
    """A run that can be trained.

    Attributes:
      program: compiled.
      state: before the first step, on all devices.
      inputs: on all devices.
      plan: its length and boundaries.
      steps_per_epoch: of the training split.
      parameters, parameters_trained: how many numbers.
      from_features: whether the feeds hold the features of the frozen prefix instead of images.
    """

    program: Program
    state: TrainState
    inputs: Inputs
    plan: Plan
    steps_per_epoch: int
    parameters: int
    parameters_trained: int
    from_features: bool


def assemble(config: Config, dataset: Dataset, seed: int, compiled: Compiled, interruption: Interruption) -> Assembly:
    """A run of a config with a seed.

    Args:
      config: checked by `cnnjax.train.setup.check_request`.
      dataset: the config's.
      seed: of the run.
      compiled: added to.
      interruption: looked at while the features of a frozen prefix are computed.

    Raises:
      Stopped: after a signal.
    """
    summary = dataset.summary
    model = build_model(config.model, summary, AXIS)
    abstract = abstract_variables(model, summary)
    rules = rules_of(config, abstract)
    parts = partition(model, abstract, rules)
    drawn = (config.model, config.data, config.filters)
    if drawn not in compiled.starts:
        compiled.starts[drawn] = starting_function(model, summary, rules)
    start = compiled.starts[drawn](seed)
    params, stats = start["params"], start["batch_stats"]
    after, inputs = _inputs(config, dataset, seed, model, parts, (params, stats), compiled, interruption)

    steps_per_epoch = len(dataset.train) // config.train.batch_size
    steps = max(1, round(config.train.epochs * steps_per_epoch))
    optimiser = make_optimiser(config.optim, steps)
    trained = {path: params[path] for path in sorted(parts.trained)}
    moving = {path: stats[path] for path in sorted(parts.moving)}
    state = replicate(initial_state(trained, moving, optimiser))
    key = (config.model, config.data, config.optim, config.train, parts, after)
    if key not in compiled.programs:
        task = Task(
            model=model,
            frozen_modules=parts.modules,
            after=after,
            optimiser=optimiser,
            batch_size=config.train.batch_size,
            eval_batch_size=config.train.eval_batch_size,
            mean=summary.mean,
            std=summary.std,
            augment=config.data.augment,
            max_shift=config.data.max_shift,
            label_smoothing=config.optim.label_smoothing,
        )
        compiled.programs[key] = compile_program(task, state, inputs.frozen, inputs.train, inputs.held_out)
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
        program=compiled.programs[key],
        state=state,
        inputs=inputs,
        plan=plan,
        steps_per_epoch=steps_per_epoch,
        parameters=count(abstract["params"], frozenset(rules)),
        parameters_trained=count(abstract["params"], parts.trained),
        from_features=after is not None,
    )


def best_variables(state: TrainState, frozen: tuple[Flat, Flat]) -> dict[str, Flat]:
    """All `params` and `batch_stats` of the best evaluation so far, by path."""
    return {
        "params": {**frozen[0], **state.best.trained},
        "batch_stats": {**frozen[1], **state.best.stats},
    }


def _inputs(
    config: Config,
    dataset: Dataset,
    seed: int,
    model: Network,
    parts: Partition,
    start: tuple[Flat, Flat],
    compiled: Compiled,
    interruption: Interruption,
) -> tuple[str | None, Inputs]:
    """The stage behind which the feeds begin (None: they hold images), and all that the run reads."""
    function = _prefix_function(config, dataset, model, parts, start, compiled)

    def feed(*splits: Split) -> Feed:
        images: Any = np.concatenate([split.images for split in splits])
        if function:
            size = config.train.eval_batch_size
            images = compute_features(function, variables_of(*start), images, size, interruption.check)
        return replicate(Feed(jnp.asarray(images), jnp.concatenate([split.labels for split in splits])))

    frozen = (
        {path: start[0][path] for path in sorted(parts.frozen)},
        {path: start[1][path] for path in sorted(parts.fixed)},
    )
    inputs = Inputs(
        frozen=replicate(frozen),
        train=feed(dataset.train),
        held_out=feed(dataset.validation, dataset.test),
        keys=replicate(Keys(*(stream_key(seed, stream) for stream in Keys._fields))),
    )
    return (parts.prefix if function else None), inputs


def _prefix_function(
    config: Config,
    dataset: Dataset,
    model: Network,
    parts: Partition,
    start: tuple[Flat, Flat],
    compiled: Compiled,
) -> FeatureFunction | None:
    """The features of the frozen prefix, where there is one whose output never changes and fits in memory."""
    if parts.prefix is None or config.data.augment:
        return None
    summary = dataset.summary
    key = (config.model, config.data, parts.prefix)
    if key not in compiled.features:
        compiled.features[key] = feature_function(model, parts.prefix, summary.mean, summary.std)
    function = compiled.features[key]
    examples = sum(summary.sizes.values())
    return function if fits(function, variables_of(*start), summary.shape, examples) else None
