"""What every transformation of a batch is given: a magnitude and a key, one for all examples or one for each."""

import jax
import jax.numpy as jnp

from cnnjax.ops.keys import fold_in_each


def working_dtype(x: jax.Array) -> jnp.dtype:
    """In which to compute coordinates and weights for x: float32 at least, so that half precision is only rounded once.

    Raises:
      ValueError: if x is not of floating point.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"a transformation takes images of floating point, such as float32; given {x.dtype}")
    return jnp.promote_types(x.dtype, jnp.float32)


def per_example(magnitude: jax.typing.ArrayLike, x: jax.Array, dimensions: int | None = None) -> jax.Array:
    """The magnitude of each example as [N, 1, ..., 1], of the rank of x and in its working precision.

    Args:
      magnitude: a scalar, the same for all examples; or [N].
      x: [N, *spatial, C], of floating point.
      dimensions: how many spatial ones x must have; None for any.

    Raises:
      ValueError: for another shape or dtype.
    """
    if x.ndim < 3 or dimensions not in (None, x.ndim - 2):
        expected = "[N, *spatial, C]" if dimensions is None else ("[N, W, C]", "[N, H, W, C]")[dimensions - 1]
        raise ValueError(f"this transformation takes a batch {expected}; given shape {x.shape}")
    each = jnp.asarray(magnitude, working_dtype(x))
    if each.shape not in ((), x.shape[:1]):
        raise ValueError(f"a magnitude is a scalar, or one for each of {x.shape[0]} examples; given shape {each.shape}")
    return jnp.broadcast_to(each, x.shape[:1]).reshape(-1, *[1] * (x.ndim - 1))


def keys_of_examples(key: jax.Array | None, examples: int) -> jax.Array:
    """A key for each of the examples: [N].

    Args:
      key: one, which is folded with each example's place in the batch; or [N], taken as they are, so that an example
        draws the same wherever it lies in whichever batch.
      examples: N.

    Raises:
      ValueError: if there is none, it is not a typed key, or of another shape.
    """
    if key is None or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise ValueError("a random transformation needs a key, as made by `jax.random.key`")
    if key.shape not in ((), (examples,)):
        raise ValueError(f"a random transformation takes one key or {examples}; given shape {key.shape}")
    return fold_in_each(key, jnp.arange(examples)) if key.ndim == 0 else key
