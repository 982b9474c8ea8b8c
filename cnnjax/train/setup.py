"""From a config to a network, its starting variables, and what of them is trained."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.config import Config, FilterRule, FitConfig, ModelConfig, RequestError, TrainConfig
from cnnjax.data.augmentation import check_augmentation
from cnnjax.data.dataset import DataSummary
from cnnjax.filters.combination import add_mixing, bank_place, mixing_path
from cnnjax.filters.freezing import frozen_modules, frozen_prefix, frozen_statistics
from cnnjax.filters.greedy import Between, Fitting, Look, check_fittings, fit_greedily, plan_fittings
from cnnjax.filters.places import Place, find_places
from cnnjax.filters.plan import Flat, cover, flatten
from cnnjax.filters.saved import Saved, take_saved
from cnnjax.filters.sources import check_draws, draw_values, is_saved
from cnnjax.models.network import Network
from cnnjax.models.registry import build
from cnnjax.models.tracing import abstract_variables
from cnnjax.ops.keys import options_for_drawing, stream_key
from cnnjax.train.devices import check_divides, device_memory
from cnnjax.train.processes import several

# The step is an int32 on the device.
_MOST_STEPS = 2**31 - 1
_MOST_EVALUATIONS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Partition:
    """Which variables are trained and which stay, by path.

    Attributes:
      trained, frozen: parameters.
      moving, fixed: batch statistics.
      modules: paths of the modules frozen whole, and of the stages without parameters among the leading frozen ones.
      prefix: the last of the leading stages frozen whole, or None.
    """

    trained: frozenset[str]
    frozen: frozenset[str]
    moving: frozenset[str]
    fixed: frozenset[str]
    modules: frozenset[str]
    prefix: str | None


@dataclasses.dataclass(frozen=True)
class Blueprint:
    """A network under a filter plan, before anything is computed.

    Attributes:
      model: the network.
      places: its kernels by path, in the order of execution.
      rules: the rule of each parameter by path, the matrices of combinations among them.
      abstract: shapes and dtypes of `params` and `batch_stats` by path. Where filters are combined, `params` has the
        banks and matrices and not the network's own kernels; see `cnnjax.filters.combination`.
      parts: what of it is trained.
    """

    model: Network
    places: Mapping[str, Place]
    rules: Mapping[str, FilterRule]
    abstract: Mapping[str, Flat]
    parts: Partition


def build_model(config: ModelConfig, summary: DataSummary, axis_name: str | None = None) -> Network:
    """The network of a config for a data set.

    Raises:
      RequestError: for an unknown network or field, or one that the data's images are too small for.
    """
    fields = {k: v for k, v in dataclasses.asdict(config).items() if k != "name" and v is not None}
    try:
        model = build(config.name, num_classes=summary.num_classes, axis_name=axis_name, **fields)
        abstract_variables(model, summary.shape)
    except RequestError as error:
        raise RequestError(f"config.model: {error}") from None
    except ValueError as error:
        raise RequestError(f"config.model: {config.name} does not take images of {summary.shape}: {error}") from None
    return model


def make_blueprint(config: Config, summary: DataSummary, axis_name: str | None = None) -> Blueprint:
    """The network of a config for a data set, under its plan.

    Raises:
      RequestError: as `build_model` and `cnnjax.filters.plan.cover` do, and for a source that there is not.
    """
    model = build_model(config.model, summary, axis_name)
    own = abstract_collections(model, summary)
    rules = cover(own["params"], config.filters)
    for rule in config.filters:
        try:
            is_saved(rule.source)
        except RequestError as error:
            raise RequestError(f"config.filters: {error}") from None
    places = {place.path: place for place in find_places(model, own["params"], summary.shape)}
    params: dict[str, Any] = dict(own["params"])
    for path, place in places.items():
        if rules[path].combinations:
            bank = bank_place(place, rules[path])
            params[path] = jax.ShapeDtypeStruct((*place.positions, *bank.shape), params[path].dtype)
            params[mixing_path(path)] = jax.ShapeDtypeStruct((bank.features, place.features), params[path].dtype)
    rules = add_mixing(rules, places)
    abstract = {**own, "params": params}
    return Blueprint(model, places, rules, abstract, partition(model, abstract, rules))


def abstract_collections(model: Network, summary: DataSummary) -> dict[str, Flat]:
    """Shapes and dtypes of the network's own `params` and `batch_stats` by path, without computing anything."""
    return _flat_collections(abstract_variables(model, summary.shape))


def partition(model: Network, abstract: Mapping[str, Flat], rules: Mapping[str, FilterRule]) -> Partition:
    """What a plan's rules say of each variable."""
    modules = frozen_modules(rules)
    prefix = frozen_prefix(model, rules, modules)
    trained = frozenset(path for path, rule in rules.items() if rule.state == "trained")
    fixed = frozen_statistics(abstract["batch_stats"], modules)
    return Partition(
        trained=trained,
        frozen=frozenset(rules) - trained,
        moving=frozenset(abstract["batch_stats"]) - fixed,
        fixed=fixed,
        modules=modules.union(prefix),
        prefix=prefix[-1] if prefix else None,
    )


InitFunction = Callable[[int], dict[str, Flat]]


def init_function(model: Network, summary: DataSummary) -> InitFunction:
    """From a seed to the network's own `params` and `batch_stats` by path, from its initialisers; compiled."""

    def init(seed: jax.Array) -> dict[str, Flat]:
        example = jnp.zeros((1, *summary.shape), jnp.float32)
        return _flat_collections(model.init(stream_key(seed, "params"), example))

    return jax.jit(init, compiler_options=options_for_drawing())


def starting_values(
    blueprint: Blueprint,
    init: Mapping[str, Flat],
    seed: int,
    images: np.ndarray,
    fittings: Sequence[Fitting],
    looks: Mapping[str, Look],
    fit: FitConfig,
    saved: Saved,
    between: Between,
) -> tuple[Flat, Flat]:
    """The parameters and batch statistics before the first step, by path.

    Args:
      blueprint: the network under its plan.
      init: from its own initialisers.
      seed: of the run.
      images: of the training split.
      fittings: the filters to be fitted, see `cnnjax.filters.greedy.plan_fittings`.
      looks: by layer, how to see what it sees.
      fit: how.
      saved: all saved sources that the plan names.
      between: told of the fitting's progress.

    Raises:
      RequestError: for filters that cannot be fitted to their layer.
    """
    rules = blueprint.rules
    params = draw_values(init["params"], rules, blueprint.places, stream_key(seed, "filters"))
    params, stats = take_saved(params, init["batch_stats"], rules, saved)
    return fit_greedily(fittings, looks, params, stats, images, fit, stream_key(seed, "fit"), between), stats


def count(abstract: Flat, paths: frozenset[str]) -> int:
    """How many numbers the variables at these paths hold."""
    return sum(math.prod(abstract[path].shape) for path in paths)


def what_is_trained(blueprint: Blueprint, plan: Sequence[FilterRule]) -> str:
    """One line: how many parameters are trained, and which patterns of the plan are frozen or combined."""
    params = blueprint.abstract["params"]
    every, trained = (count(params, paths) for paths in (frozenset(blueprint.rules), blueprint.parts.trained))
    frozen = [f"{rule.pattern} ({rule.source})" for rule in plan if rule.state == "frozen" and not rule.combinations]
    combined = [
        f"{rule.pattern} ({rule.combinations} times as many {rule.state} filters, {rule.source})"
        for rule in plan
        if rule.combinations
    ]
    parts = [f"{trained:,} of {every:,} parameters are trained"]
    parts += [f"{what}: {', '.join(rules)}" for what, rules in (("frozen", frozen), ("combined", combined)) if rules]
    return "; ".join(parts)


def head_place(blueprint: Blueprint) -> Place:
    """The dense layer that is all that is trained, which a head in closed form can stand for.

    Raises:
      RequestError: if the last stage has no such layer, or more than it is trained.
    """
    stage = blueprint.model.stage_names[-1]
    inside = [place for place in blueprint.places.values() if place.path.startswith(f"{stage}/")]
    if len(inside) != 1 or inside[0].window or inside[0].positions or f"{inside[0].layer}/bias" not in blueprint.rules:
        raise RequestError(f"config.head.name: {stage} of this network is not one dense layer; use sgd")
    head = inside[0]
    wanted = {head.path, f"{head.layer}/bias"}
    more = sorted(blueprint.parts.trained - wanted)
    if more or blueprint.parts.trained != wanted:
        wrong = f"{more[0]} is trained" if more else f"{sorted(wanted - blueprint.parts.trained)[0]} is frozen"
        raise RequestError(
            f"config.head.name: all but the dense layer {head.layer} must be frozen, and it trained; {wrong}"
        )
    return head


def checked_blueprint(config: Config, summary: DataSummary) -> Blueprint:
    """`make_blueprint`; or a `RequestError` for what can be known to be wrong with its plan, saved sources aside."""
    blueprint = make_blueprint(config, summary)
    rules, places = blueprint.rules, blueprint.places
    try:
        check_draws(rules, places)
        check_fittings(plan_fittings(rules, places), config.fit.patches)
    except RequestError as error:
        raise RequestError(f"config.filters: {error}") from None
    return blueprint


def check_request(config: Config, summary: DataSummary, saved: Saved) -> None:
    """Raises `RequestError` for what can be known to be wrong before anything is written, whatever the devices; of
    these see `check_devices`.

    Args:
      config: of an arm.
      summary: of its data.
      saved: what each saved source of the plan has; abstract shapes will do.
    """
    if several() and config.study.pack not in ("auto", 1):
        raise RequestError(
            f"config.study.pack: given {config.study.pack}; on many hosts each run is trained alone, by auto or 1"
        )
    if config.train.batch_size > summary.sizes["train"]:
        raise RequestError(
            f"config.train.batch_size: {config.train.batch_size} is more than the {summary.sizes['train']} training "
            f"examples of {summary.name}"
        )
    check_length(config.train, summary)
    try:
        check_augmentation(config.data.augment, summary.shape)
    except RequestError as error:
        raise RequestError(f"config.data.augment: {error}") from None
    blueprint = checked_blueprint(config, summary)
    try:
        take_saved(blueprint.abstract["params"], blueprint.abstract["batch_stats"], blueprint.rules, saved)
    except RequestError as error:
        raise RequestError(f"config.filters: {error}") from None
    if config.head.name != "sgd":
        head_place(blueprint)
        if config.data.augment:
            raise RequestError(f"config.data.augment: {config.head.name} sees each example as it is; leave it empty")


def check_devices(config: Config, summary: DataSummary) -> None:
    """Raises `RequestError` for batches that this machine's devices do not divide, or a head that they cannot hold.

    Args:
      config: of an arm; `check_request` finds nothing wrong with it.
      summary: of its data.
    """
    check_divides("config.train.batch_size", config.train.batch_size, config.train.accumulate)
    check_divides("config.train.eval_batch_size", config.train.eval_batch_size)
    if config.head.name == "ridge":
        head = head_place(make_blueprint(config, summary))
        check_ridge(head.fan_in, summary.sizes["train"], device_memory())


def check_ridge(features: int, examples: int, memory: float) -> None:
    """Raises `RequestError` where a ridge head's matrix and its factor, with a copy of each, exceed a device's memory.

    Args:
      features: that the head is given.
      examples: of the training split.
      memory: bytes.
    """
    side = min(features, examples)
    if (needed := 4 * 4 * side**2) > memory:
        raise RequestError(
            f"config.head.name: ridge on {features} features of {examples} examples needs {needed / 2**30:.0f} GiB, "
            f"and there are {memory / 2**30:.0f}; use logistic, or fewer features by more pooling"
        )


def check_length(config: TrainConfig, summary: DataSummary) -> None:
    """Raises `RequestError` for more steps than a run can count, or more evaluations than it can keep track of."""
    steps_per_epoch = summary.sizes["train"] // config.batch_size
    steps = config.epochs * steps_per_epoch
    if steps > _MOST_STEPS:
        most = _MOST_STEPS // steps_per_epoch
        raise RequestError(f"config.train.epochs: {config.epochs:g} are too many; at most {most} with this batch_size")
    if steps / max(1.0, config.eval_every * steps_per_epoch) > _MOST_EVALUATIONS:
        least = config.epochs / _MOST_EVALUATIONS
        raise RequestError(
            f"config.train.eval_every: {config.eval_every:g} epochs are too few for {config.epochs:g} epochs; "
            f"at least {least:.3g}"
        )


def _flat_collections(variables: Mapping[str, Any]) -> dict[str, Flat]:
    return {name: flatten(variables.get(name, {})) for name in ("params", "batch_stats")}
