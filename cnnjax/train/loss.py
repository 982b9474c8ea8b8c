"""The classification loss."""

import jax
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """The cross-entropy of each example [N], in nats.

    Args:
      logits: [N, classes].
      labels: [N] integers.
      label_smoothing: the share of the target's mass that is spread evenly over all classes (Szegedy 2016).
    """
    if label_smoothing == 0:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)
