"""Normalisation layers, by name."""

from collections.abc import Callable

import jax
from flax import linen as nn


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


NORMS: dict[str, Callable[[str | None], nn.Module | None]] = {
    "none": lambda axis_name: None,
    "batch": lambda axis_name: BatchNorm(axis_name=axis_name),
}
