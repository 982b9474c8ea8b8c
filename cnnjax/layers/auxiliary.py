"""Auxiliary heads: classifiers on the way, so that the loss is nearer to the first layers (Szegedy 2015)."""

import jax
from flax import linen as nn

AUXILIARY_LOGITS = "auxiliary_logits"
"""The Flax collection that auxiliary heads leave their logits in: in training, where it is mutable."""


class AuxiliaryHead(nn.Module):
    """Passes its input on, and in training leaves the logits [N, classes] of a head on it in `auxiliary_logits`.

    Evaluation does not run the head. `cnnjax.train.loss.training_loss` takes its logits in.

    Attributes:
      head: from the input to logits.
    """

    head: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """The identity."""
        if train or self.is_initializing():
            logits = self.head(x, train=train)
            if not self.is_initializing():
                self.sow(AUXILIARY_LOGITS, "logits", logits)
        return x
