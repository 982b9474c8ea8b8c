"""The classifier behind a network of convolutions."""

from flax import linen as nn

from cnnjax.layers.dense import Dense
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.pooling import REGION_POOLS
from cnnjax.layers.sequence import Named, Sequential


def pooled_head(
    num_classes: int, dropout: float = 0.0, axis_name: str | None = None, *, before: nn.Module | None = None
) -> Sequential:
    """The mean over all positions, dropout, and a dense layer: [N, *spatial, C] to logits [N, num_classes].

    Parameters: `dense/kernel` [C, num_classes] and `dense/bias`, and those of `before`, under `before`.

    Args:
      num_classes: logits.
      dropout: the rate.
      axis_name: the devices' axis in `jax.pmap`; None for one device.
      before: a layer in front of the mean, such as the last pre-activation.
    """
    layers = (
        Named("pool", REGION_POOLS["global_average"]()),
        Named("dropout", Dropout(dropout, axis_name)),
        Named("dense", Dense(num_classes)),
    )
    return Sequential(layers if before is None else (Named("before", before), *layers))
