"""How sure a network is of a class, and the way in which its image must change for it to be surer."""

import jax
import jax.numpy as jnp

from cnnjax.analysis.subject import Subject, logits_of


def class_count(subject: Subject, shape: tuple[int, ...]) -> int:
    """How many classes the network tells apart, given images of that shape (*spatial, C); it is not run."""
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return int(jax.eval_shape(logits_of, subject, image).shape[-1])


def log_odds(subject: Subject, images: jax.Array, classes: jax.Array) -> jax.Array:
    """log p / (1 - p) of each image's class, p being its softmax probability: float32 [N].

    The cross-entropy -log p falls where it rises, and its gradient is a negative multiple of this one's; but this one
    does not vanish, in float32, for a network that is sure.
    """
    logits = logits_of(subject, images)
    own = jax.nn.one_hot(classes, logits.shape[-1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), axis=-1)
    return jnp.sum(jnp.where(own, logits, 0), axis=-1) - others


def ascent(subject: Subject, images: jax.Array, classes: jax.Array, norm: str) -> tuple[jax.Array, jax.Array]:
    """`log_odds`, and for each image the direction of unit size in which they rise most.

    Returns:
      float32 [N]; and float32 as the images: in L-inf the gradient's sign, in L2 the gradient over its length. A
      gradient that is 0 or not finite gives 0.
    """
    with jax.default_matmul_precision("highest"):
        odds, pull = jax.vjp(lambda x: log_odds(subject, x, classes), images)
        (gradient,) = pull(jnp.ones_like(odds))
    gradient = jnp.where(jnp.isfinite(gradient), gradient, 0)
    return odds, jnp.sign(gradient) if norm == "linf" else unit(gradient)


def unit(x: jax.Array) -> jax.Array:
    """Each of x [N, ...] over its length; 0 stays 0."""
    axes = tuple(range(1, x.ndim))
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    scaled = x / jnp.where(largest > 0, largest, 1)  # whose squares neither overflow nor vanish
    length = jnp.sqrt(jnp.sum(scaled**2, axis=axes, keepdims=True))
    return scaled / jnp.where(length > 0, length, 1)
