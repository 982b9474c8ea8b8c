"""Random keys as a function of (seed, stream, step): no generator is carried, so a resumed run draws the same."""

import zlib

import jax


def stream_key(seed: int | jax.Array, stream: str) -> jax.Array:
    """The key of one named stream of randomness, such as `params` or `order`, of one seed."""
    return fold_in_name(jax.random.key(seed), stream)


def fold_in_name(key: jax.Array, name: str) -> jax.Array:
    """A key of its own for each name."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
