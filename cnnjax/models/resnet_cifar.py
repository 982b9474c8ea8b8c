"""Residual networks for CIFAR (He, Zhang, Ren and Sun 2016, section 4.2), and the plain networks of the same layers."""

import functools
from collections.abc import Callable

from cnnjax.layers.parts import Parts
from cnnjax.models.network import Network
from cnnjax.models.resnet import Layout, residual_network, small_stem


def resnet_cifar(
    layout: Layout,
    num_classes: int,
    *,
    width: int = 16,
    form: str = "v1.5",
    shortcut: str = "padded",
    downsample: str = "stride",
    norm: str = "batch",
    act: str = "relu",
    padding: str = "same",
    init: str = "he",
    connectivity: str = "conv",
    dropout: float = 0.0,
    axis_name: str | None = None,
) -> Network:
    """A `stem` of one 3x3 convolution, three stages of basic blocks (`stage1`, ...), and a `head` on the mean.

    On 32 x 32 images the grids are 32, 16 and 8, with `width` times 1, 2 and 4 features. Arguments and errors as in
    `cnnjax.models.resnet.resnet`. The paper's shortcuts are padded, so that plain and residual networks have the same
    parameters.
    """
    parts = Parts(act, norm, "max", padding, init, connectivity, axis_name, downsample)
    stem = small_stem(parts, width)
    return residual_network(layout, num_classes, parts, stem, width, form=form, shortcut=shortcut, dropout=dropout)


# A depth counts the stem, two convolutions for each of 3n blocks, and the dense layer: 6n + 2.
_LAYOUTS = {depth: Layout("basic", ((depth - 2) // 6,) * 3) for depth in (20, 32, 44, 56, 110)}

CIFAR_RESNETS: dict[str, Callable[..., Network]] = {
    f"resnet{depth}": functools.partial(resnet_cifar, layout) for depth, layout in _LAYOUTS.items()
}
CIFAR_PLAIN: dict[str, Callable[..., Network]] = {
    f"plain{depth}": functools.partial(resnet_cifar, layout, shortcut="none") for depth, layout in _LAYOUTS.items()
}
