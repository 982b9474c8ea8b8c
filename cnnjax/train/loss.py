"""The classification loss."""

from collections.abc import Sequence

import jax
import optax

AUXILIARY_WEIGHT = 0.3
"""Of an auxiliary head's loss beside the network's own (Szegedy 2015, section 5)."""


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float | jax.Array = 0.0) -> jax.Array:
    """The cross-entropy of each example [N], in nats.

    Args:
      logits: [N, classes].
      labels: [N] integers.
      label_smoothing: the share of the target's mass that is spread evenly over all classes (Szegedy 2016).
    """
    if isinstance(label_smoothing, float) and label_smoothing == 0:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def training_loss(
    logits: jax.Array, auxiliary: Sequence[jax.Array], labels: jax.Array, label_smoothing: float | jax.Array = 0.0
) -> jax.Array:
    """What training lowers, for each example [N]: the cross-entropy, and that of auxiliary heads at their weight.

    Args:
      logits: [N, classes].
      auxiliary: the logits [N, classes] of each auxiliary head (`cnnjax.layers.auxiliary`), of none as a rule.
      labels, label_smoothing: as in `cross_entropy`, the same for all heads.
    """
    own = cross_entropy(logits, labels, label_smoothing)
    return own + AUXILIARY_WEIGHT * sum(cross_entropy(other, labels, label_smoothing) for other in auxiliary)
