"""How much a run computes, and how much its devices can."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.models.cost import multiply_adds
from cnnjax.models.network import Network, run_stages
from cnnjax.models.tracing import abstract_variables
from cnnjax.train.devices import by_own_device

# A product of matrices that takes so long hides what it costs to begin it.
_LONG_ENOUGH = 0.05  # seconds
_SMALLEST, _LARGEST = 512, 8192
_REPEATS = 5


@functools.lru_cache(maxsize=64)
def step_multiply_adds(
    model: Network,
    input_shape: tuple[int, ...],
    batch_size: int,
    after: str | None = None,
    features: tuple[int, ...] | None = None,
) -> int:
    """Of a training step in which all is trained: three times those of the batch's forward pass, for it and the
    gradients of both operands. A frozen stage within takes less.

    Args:
      model: the network.
      input_shape: of an example, [*spatial, C].
      batch_size: over all devices.
      after: the stage that the step begins behind, where features are kept of what lies before; None for the first.
      features: then the shape of an example's features.
    """
    variables = abstract_variables(model, input_shape)
    batch = jax.ShapeDtypeStruct((batch_size, *(features or input_shape)), np.float32)
    return 3 * multiply_adds(lambda variables, x: run_stages(model, variables, x, after=after), variables, batch)


def measure_peak(dtype: str) -> float:
    """Floating-point operations per second of all devices together: in products of matrices large enough, the best of
    five. A multiplication and an addition are two. Of many processes one measures; the others' devices are as fast.

    Args:
      dtype: of the matrices, such as `bfloat16`.
    """
    size, multiply = _SMALLEST, jax.jit(lambda x: x @ x)
    while True:
        matrices = jax.device_put(jnp.ones((jax.local_device_count(), size, size), dtype), by_own_device())
        multiply(matrices).block_until_ready()
        taken = min(_seconds(multiply, matrices) for _ in range(_REPEATS))
        if taken >= _LONG_ENOUGH or size == _LARGEST:
            return 2 * jax.device_count() * size**3 / taken
        size *= 2


def _seconds(multiply: "jax.stages.Wrapped", matrices: jax.Array) -> float:
    started = time.monotonic()
    multiply(matrices).block_until_ready()
    return time.monotonic() - started
