"""The classifier behind a network of convolutions."""

from flax import linen as nn

from cnnjax.layers.dropout import Dropout
from cnnjax.layers.parts import Parts
from cnnjax.layers.region_pooling import REGION_POOLS
from cnnjax.layers.sequence import Named, Sequential


def pooled_head(parts: Parts, num_classes: int, dropout: float = 0.0, *, before: nn.Module | None = None) -> Sequential:
    """The mean over all positions, dropout, and a dense layer: [N, *spatial, C] to logits [N, num_classes].

    Parameters: `dense/kernel` [C, num_classes] and `dense/bias`, and those of `before`, under `before`.

    Args:
      parts: of the network.
      num_classes: logits.
      dropout: the rate.
      before: a layer in front of the mean, such as the last pre-activation.
    """
    layers = (
        Named("pool", REGION_POOLS["global_average"]()),
        Named("dropout", Dropout(dropout, parts.axis_name)),
        Named("dense", parts.linear_head(num_classes)),
    )
    return Sequential(layers if before is None else (Named("before", before), *layers))
