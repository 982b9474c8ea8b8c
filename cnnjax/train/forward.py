"""A network's forward pass in training and evaluation: in which precision, and what of it is kept for the gradient."""

from collections.abc import Mapping
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp

from cnnjax.layers.auxiliary import AUXILIARY_LOGITS
from cnnjax.models.network import Network, run_stages

Precision = Literal["float32", "bfloat16"]
Variables = Mapping[str, Mapping[str, Any]]

_CHANGED = ["batch_stats", AUXILIARY_LOGITS]


def logits_in_training(
    model: Network,
    variables: Variables,
    x: jax.Array,
    after: str | None,
    dropout: jax.Array,
    *,
    precision: Precision,
    remat: bool,
) -> tuple[jax.Array, dict[str, Any]]:
    """The logits [N, classes] in float32, and by collection what the pass leaves behind.

    Args:
      model: the network.
      variables: `params` and `batch_stats`, float32.
      x: [N, ...], the input, or the output of stage `after`.
      after: the stage whose output x is; None for the input.
      dropout: the key.
      precision: that activations and products have. Parameters and batch statistics are kept in float32.
      remat: whether only the stages' outputs are kept for the gradient, which computes all else once more (Chen 2016).
    """
    variables, x = _lower(variables, x, precision)
    if not remat:
        rngs = {"dropout": dropout}
        logits, left = model.apply(variables, x, train=True, after=after, mutable=_CHANGED, rngs=rngs)
        return _raise((logits, dict(left)))
    collected: dict[str, dict[str, Any]] = {}
    names = model.stage_names
    for number in range(0 if after is None else names.index(after) + 1, len(names)):
        before, name = names[number - 1] if number else None, names[number]

        @jax.checkpoint
        def stage(variables: Variables, x: jax.Array, before: Any = before, name: Any = name) -> Any:
            rngs = {"dropout": dropout}
            return model.apply(variables, x, train=True, after=before, until=name, mutable=_CHANGED, rngs=rngs)

        x, left = stage(variables, x)
        for collection, values in left.items():
            collected.setdefault(collection, {}).update({name: values[name]} if name in values else {})
    return _raise((x, collected))


def logits_in_evaluation(
    model: Network, variables: Variables, x: jax.Array, after: str | None, precision: Precision
) -> jax.Array:
    """The logits [N, classes] in float32; arguments as in training."""
    return cast(jax.Array, _raise(run_stages(model, *_lower(variables, x, precision), after=after)))


def _lower(variables: Variables, x: jax.Array, precision: Precision) -> tuple[Variables, jax.Array]:
    if precision == "float32":
        return variables, x
    params = jax.tree.map(lambda a: a.astype(precision), variables["params"])
    return {**variables, "params": params}, x.astype(precision)


def _raise(tree: Any) -> Any:
    return jax.tree.map(lambda a: a.astype(jnp.float32) if a.dtype == jnp.bfloat16 else a, tree)
