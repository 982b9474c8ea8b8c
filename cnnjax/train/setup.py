"""From a config to a network, its starting variables, and what of them is trained."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.config import Config, FilterRule, ModelConfig, RequestError, TrainConfig
from cnnjax.data.dataset import DataSummary
from cnnjax.filters.freezing import frozen_modules, frozen_prefix, frozen_statistics
from cnnjax.filters.plan import Flat, cover, flatten
from cnnjax.filters.sources import starting_values
from cnnjax.models.network import Network
from cnnjax.models.registry import build
from cnnjax.ops.keys import stream_key
from cnnjax.train.devices import check_divides

# The step is an int32 on the device.
_MOST_STEPS = 2**31 - 1
_MOST_EVALUATIONS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Partition:
    """Which variables are trained and which stay, by path.

    Attributes:
      trained, frozen: parameters.
      moving, fixed: batch statistics.
      modules: paths of the modules frozen whole.
      prefix: the last of the leading stages frozen whole, or None.
    """

    trained: frozenset[str]
    frozen: frozenset[str]
    moving: frozenset[str]
    fixed: frozenset[str]
    modules: frozenset[str]
    prefix: str | None


def build_model(config: ModelConfig, summary: DataSummary, axis_name: str | None = None) -> Network:
    """The network of a config for a data set.

    Raises:
      RequestError: for an unknown network or field, or one that the data's images are too small for.
    """
    fields = {k: v for k, v in dataclasses.asdict(config).items() if k != "name" and v is not None}
    try:
        model = build(config.name, num_classes=summary.num_classes, axis_name=axis_name, **fields)
        abstract_variables(model, summary)
    except RequestError as error:
        raise RequestError(f"config.model: {error}") from None
    except ValueError as error:
        raise RequestError(f"config.model: {config.name} does not take images of {summary.shape}: {error}") from None
    return model


def abstract_variables(model: Network, summary: DataSummary) -> dict[str, Flat]:
    """Shapes and dtypes of `params` and `batch_stats` by path, without computing anything."""
    example = jax.ShapeDtypeStruct((1, *summary.shape), jnp.float32)
    return _flat_collections(jax.eval_shape(model.init, jax.random.key(0), example))


def partition(model: Network, abstract: Mapping[str, Flat], rules: Mapping[str, FilterRule]) -> Partition:
    """What a plan's rules say of each variable."""
    modules = frozen_modules(rules)
    trained = frozenset(path for path, rule in rules.items() if rule.state == "trained")
    fixed = frozen_statistics(abstract["batch_stats"], modules)
    return Partition(
        trained=trained,
        frozen=frozenset(rules) - trained,
        moving=frozenset(abstract["batch_stats"]) - fixed,
        fixed=fixed,
        modules=modules,
        prefix=frozen_prefix(model, modules),
    )


StartingFunction = Callable[[int], dict[str, Flat]]


def starting_function(model: Network, summary: DataSummary, rules: Mapping[str, FilterRule]) -> StartingFunction:
    """From a seed to `params` and `batch_stats` before the first step, by path; compiled."""

    @jax.jit
    def start(seed: jax.Array) -> dict[str, Flat]:
        example = jnp.zeros((1, *summary.shape), jnp.float32)
        variables = _flat_collections(model.init(stream_key(seed, "params"), example))
        params = starting_values(variables["params"], rules, stream_key(seed, "filters"))
        return {"params": params, "batch_stats": variables["batch_stats"]}

    return start


def rules_of(config: Config, abstract: Mapping[str, Flat]) -> dict[str, FilterRule]:
    """The rule of each parameter; see `cnnjax.filters.plan.cover`."""
    return cover(abstract["params"], config.filters)


def count(abstract: Flat, paths: frozenset[str]) -> int:
    """How many numbers the variables at these paths hold."""
    return sum(math.prod(abstract[path].shape) for path in paths)


def check_request(config: Config, summary: DataSummary) -> None:
    """Raises `RequestError` for what can be known to be wrong before anything is written."""
    check_divides("config.train.batch_size", config.train.batch_size)
    check_divides("config.train.eval_batch_size", config.train.eval_batch_size)
    if config.train.batch_size > summary.sizes["train"]:
        raise RequestError(
            f"config.train.batch_size: {config.train.batch_size} is more than the {summary.sizes['train']} training "
            f"examples of {summary.name}"
        )
    check_length(config.train, summary)
    model = build_model(config.model, summary)
    abstract = abstract_variables(model, summary)
    rules = rules_of(config, abstract)
    try:
        jax.eval_shape(lambda: starting_values(_zeros(abstract["params"]), rules, jax.random.key(0)))
    except RequestError as error:
        raise RequestError(f"config.filters: {error}") from None


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


def _zeros(abstract: Flat) -> Flat:
    return {path: jnp.zeros(leaf.shape, leaf.dtype) for path, leaf in abstract.items()}


def _flat_collections(variables: Mapping[str, Any]) -> dict[str, Flat]:
    return {name: flatten(variables.get(name, {})) for name in ("params", "batch_stats")}
