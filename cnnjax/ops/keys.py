"""Random keys as a function of (seed, stream, step): no generator is carried, so a resumed run draws the same."""

import zlib

import jax
import jax.numpy as jnp


def stream_key(seed: int | jax.Array, stream: str) -> jax.Array:
    """The key of one named stream of randomness, such as `params` or `order`, of one seed."""
    return fold_in_name(jax.random.key(seed), stream)


def fold_in_name(key: jax.Array, name: str) -> jax.Array:
    """A key of its own for each name."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def fold_in_each(key: jax.Array, numbers: jax.Array) -> jax.Array:
    """A key of its own for each of the numbers [N]."""
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)


def example_keys(key: jax.Array, examples: int, axis_name: str | None) -> jax.Array:
    """A key for each example of this device's part of a batch, by its place in the whole batch over all devices.

    A batch that is spread over eight devices then draws as on one.

    Args:
      key: the same on all devices.
      examples: on this device.
      axis_name: the devices' axis in `jax.pmap`; None for one device.
    """
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * examples
    return fold_in_each(key, first + jnp.arange(examples))


def options_for_drawing() -> dict[str, bool | int | str] | None:
    """What XLA is told of a program that draws numbers and runs once: its fastest code for them takes a CPU seconds.

    The numbers are the same.
    """
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
