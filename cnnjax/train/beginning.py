"""What a run begins with: its network under its plan, its starting values, and the features of its frozen prefix.

Runs that differ in values alone (seeds, random filters) share what is compiled.
"""

import dataclasses
import math
from collections.abc import Hashable
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from cnnjax.config import Config
from cnnjax.data.dataset import DataSummary
from cnnjax.data.streamed import AnyDataset
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
from cnnjax.train.devices import AXIS
from cnnjax.train.interruption import Interruption
from cnnjax.train.program import Program
from cnnjax.train.setup import (
    Blueprint,
    InitFunction,
    count,
    init_function,
    make_blueprint,
    starting_values,
)
from cnnjax.train.step import variables_of
from cnnjax.train.streaming import StreamedProgram


@dataclasses.dataclass(frozen=True)
class Shared:
    """What the runs of a study share, by what it depends on: what is compiled, and the features of frozen prefixes."""

    inits: dict[Hashable, InitFunction] = dataclasses.field(default_factory=dict)
    looks: dict[Hashable, Look] = dataclasses.field(default_factory=dict)
    prefixes: dict[Hashable, FeatureFunction] = dataclasses.field(default_factory=dict)
    programs: dict[Hashable, Program] = dataclasses.field(default_factory=dict)
    streamed: dict[Hashable, StreamedProgram] = dataclasses.field(default_factory=dict)
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


def begin(
    config: Config,
    dataset: AnyDataset,
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
    if blueprint.parts.prefix is None or _differ_by_epoch(config):
        return Beginning(blueprint, params, stats, None, images, labels)
    features = _prefix_features(config, dataset.summary, blueprint, (params, stats), images, shared, between)
    return Beginning(blueprint, params, stats, blueprint.parts.prefix, features, labels)


def starting_variables(config: Config, dataset: AnyDataset, seed: int, saved: Saved) -> dict[str, Any]:
    """`params` and `batch_stats`, nested, of a run before its first step; arguments and errors as in `begin`."""
    blueprint = make_blueprint(config, dataset.summary, AXIS)
    start = _start(config, dataset, seed, blueprint, Shared(), saved, lambda what, share: None)
    return jax.device_get(variables_of(*start))


def _start(
    config: Config,
    dataset: AnyDataset,
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
    images = cast(np.ndarray, dataset.train.images)
    return starting_values(blueprint, init, seed, images, fittings, looks, config.fit, saved, between)


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
    return feature_bytes(config, summary) <= MOST_FEATURE_BYTES


def feature_bytes(config: Config, summary: DataSummary) -> int:
    """Of the kept features of all examples behind the run's frozen prefix; 0 where none are kept."""
    kept = kept_features(config, summary)
    return sum(summary.sizes.values()) * math.prod(kept.shape) * kept.dtype.itemsize if kept else 0


class KeptFeatures(NamedTuple):
    """Of an example: behind which stage, and what they are."""

    after: str
    shape: tuple[int, ...]
    dtype: np.dtype


def kept_features(config: Config, summary: DataSummary) -> KeptFeatures | None:
    """What `begin` will keep of each example behind the run's frozen prefix; None where it keeps none."""
    blueprint = make_blueprint(config, summary)
    prefix = blueprint.parts.prefix
    if prefix is None or _differ_by_epoch(config):
        return None
    function = feature_function(blueprint.model, prefix, summary.mean, summary.std)
    variables = dict(abstract_variables(blueprint.model, summary.shape))
    return KeptFeatures(prefix, *feature_shape(function, variables, summary.shape))


def _differ_by_epoch(config: Config) -> bool:
    """Whether training images are others in each epoch; those that are made into squares are, too. Heads in closed form
    see each image once, as it is evaluated."""
    return config.head.name == "sgd" and bool(config.data.augment or config.data.image_size)


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
