"""Starting values of kernels and biases, by name: the lectures' question of how to initialise
(003_2444bc7fa30d6853.txt, 783)."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jax.nn.initializers import Initializer

from cnnjax.config import choose

_FORMULAS: dict[str, Initializer] = {
    "glorot": nn.initializers.glorot_uniform(),
    "he": nn.initializers.he_normal(),
    "lecun": nn.initializers.lecun_normal(),
    "orthogonal": nn.initializers.orthogonal(),
    "torch": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
}


def _compute(key: jax.Array, *, name: str, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return _FORMULAS[name](key, shape, dtype)


def _batch(keys: tuple[jax.Array], axes: tuple[int], **parameters: Any) -> tuple[jax.Array, int]:
    return jax.vmap(lambda key: _compute(key, **parameters), axes)(*keys), 0


def _shape(key: Any, *, name: str, shape: tuple[int, ...], dtype: Any) -> jax.core.ShapedArray:
    del key, name
    return jax.core.ShapedArray(shape, dtype)


# A primitive, because a network is mostly traced for its shapes: Flax does so whenever a layer runs, to check them. The
# formulas take longer to trace than all the rest of a network.
draw_p = Primitive("draw")
draw_p.def_impl(jax.jit(_compute, static_argnames=("name", "shape", "dtype")))
draw_p.def_abstract_eval(_shape)
mlir.register_lowering(draw_p, mlir.lower_fun(_compute, multiple_results=False))
batching.primitive_batchers[draw_p] = _batch


def _draw(name: str, key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    return draw_p.bind(key, name=name, shape=tuple(shape), dtype=jnp.dtype(dtype))


INITIALISERS: dict[str, Initializer] = {name: functools.partial(_draw, name) for name in _FORMULAS}
"""Of kernels. With fan_in = window * channels in, and fan_out = window * features:

- `glorot`: uniform of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010).
- `he`: normal, cut at two standard deviations, of variance 2 / fan_in (He 2015).
- `lecun`: the same of variance 1 / fan_in (LeCun 1998).
- `orthogonal`: as a matrix [fan_in, features], orthonormal columns, or rows where they are fewer (Saxe 2014).
- `torch`: uniform between -1 / sqrt(fan_in) and 1 / sqrt(fan_in), PyTorch's default for `Conv` and `Linear`.
"""

BiasInitialiser = Callable[[jax.Array, tuple[int, ...], int], jax.Array]
"""From a key, the bias's shape, and the number of inputs that each output of the layer sees."""


def zero_bias(key: jax.Array, shape: tuple[int, ...], fan_in: int) -> jax.Array:
    """All 0, whatever the inputs."""
    del key, fan_in
    return jnp.zeros(shape, jnp.float32)


@functools.partial(jax.jit, static_argnums=(1, 2))
def uniform_by_inputs(key: jax.Array, shape: tuple[int, ...], fan_in: int) -> jax.Array:
    """Uniform between -1 / sqrt(fan_in) and 1 / sqrt(fan_in): PyTorch's default for biases, float32."""
    bound = 1 / math.sqrt(fan_in)
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def starting_fields(name: str) -> dict[str, Any]:
    """The fields `kernel_init` and `bias_init` of a layer: biases start at 0, but PyTorch's default draws them too.

    Args:
      name: a key of `INITIALISERS`.

    Raises:
      RequestError: for another name.
    """
    kernel_init = choose(INITIALISERS, name, "init")
    return {"kernel_init": kernel_init, "bias_init": uniform_by_inputs if name == "torch" else zero_bias}
