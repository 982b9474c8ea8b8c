"""Normalisation layers, by name. All but batch normalisation look at one example alone, in training and after."""

from collections.abc import Callable

import jax
from flax import linen as nn

from cnnjax.ops.normalisation import local_contrast, local_response, standardise_groups


class BatchNorm(nn.BatchNorm):
    """Batch normalisation over all but the channels (Ioffe and Szegedy 2015), with PyTorch's momentum and epsilon.

    Parameters `scale` and `bias` [C]; running `mean` and `var` [C] in `batch_stats`, used when not training.
    `axis_name` is the devices' axis in `jax.pmap` over which the batch's statistics are shared; None for one device.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:  # type: ignore[override]
        """[N, ..., C] to the same shape."""
        return super().__call__(x, use_running_average=not train)


class GroupNorm(nn.Module):
    """Normalisation over all positions and the channels of a group (Wu and He 2018), then a scale and bias a channel.

    Parameters `scale` and `bias` [C], whatever the input's size.

    Attributes:
      groups: at most this many, and no more than half the channels: the greatest such number that divides the channels.
        So each group has two channels or more, but for a single channel; with groups of one channel it would be
        instance normalisation, which forgets how strong a channel's response is. One group is layer normalisation
        (Ba 2016).
    """

    groups: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, ..., C] to the same shape."""
        del train
        channels = x.shape[-1]
        most = max(min(self.groups, channels // 2), 1)
        groups = next(count for count in range(most, 0, -1) if channels % count == 0)
        scale = self.param("scale", nn.initializers.ones_init(), (channels,))
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        return standardise_groups(x, groups) * scale + bias


class LocalResponseNorm(nn.Module):
    """`cnnjax.ops.normalisation.local_response` with AlexNet's constants; no parameters."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, ..., C] to the same shape."""
        del train
        return local_response(x)


class LocalContrastNorm(nn.Module):
    """`cnnjax.ops.normalisation.local_contrast` with a window of 9; no parameters."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to the same shape."""
        del train
        return local_contrast(x)


NORMS: dict[str, Callable[[str | None], nn.Module | None]] = {
    "none": lambda axis_name: None,
    "batch": lambda axis_name: BatchNorm(axis_name=axis_name),
    "layer": lambda axis_name: GroupNorm(groups=1),
    "group": lambda axis_name: GroupNorm(),
    "local_response": lambda axis_name: LocalResponseNorm(),
    "local_contrast": lambda axis_name: LocalContrastNorm(),
}
"""`layer` is over all positions and channels of an example (Ba 2016), not over the channels of each position, as in
Flax's `LayerNorm` and ConvNeXt."""

BIASED_NORMS = frozenset({"batch", "layer", "group"})
"""Those with a bias for each channel, in front of which a convolution needs none."""
