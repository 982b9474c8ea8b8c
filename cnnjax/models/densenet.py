"""Densely connected networks (Huang, Liu, van der Maaten and Weinberger 2017)."""

import dataclasses
import functools
from collections.abc import Callable

from flax import linen as nn

from cnnjax.config import choose
from cnnjax.layers.dense_connectivity import densely_connected, transition
from cnnjax.layers.heads import pooled_head
from cnnjax.layers.parts import Parts
from cnnjax.layers.preactivation import PreActivation
from cnnjax.layers.sequence import Named, Sequential
from cnnjax.models.network import Network, Stage


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the published densely connected networks differ in.

    Attributes:
      depths: layers in each densely connected block.
      growth: the growth rate k: features that a layer adds.
      stem_features: of the first convolution.
      stem: `imagenet` or `small`.
      reduced: whether layers have a bottleneck and transitions halve the features (DenseNet-BC).
    """

    depths: tuple[int, ...]
    growth: int
    stem_features: int
    stem: str
    reduced: bool = True


def densenet(
    layout: Layout,
    num_classes: int,
    *,
    width: int | None = None,
    stem: str | None = None,
    pool: str | None = None,
    downsample: str = "stride",
    norm: str = "batch",
    act: str = "relu",
    padding: str = "same",
    init: str = "he",
    connectivity: str = "conv",
    dropout: float = 0.0,
    axis_name: str | None = None,
) -> Network:
    """A `stem`, densely connected blocks, each but the last with its transition (`stage1`, ...), and a `head`.

    Args:
      layout: see `Layout`.
      num_classes: logits.
      width: the growth rate k, of which all other widths are multiples; the layout's where None.
      stem: `imagenet`, a convolution of 7x7 at stride 2 with norm and detector, and pooling by windows of 3 at stride
        2; or `small`, a convolution of 3x3 alone; the layout's where None.
      pool: in the stem and the transitions; where None, as published: max and average.
      downsample: `stride`; or `blur`, which takes the place of these pools (see `cnnjax.layers.parts.Parts`).
      dropout: the rate before the head's dense layer.

    Raises:
      RequestError: for a value that a field does not take, or `valid` borders.
    """
    parts = Parts(act, norm, pool or "average", padding, init, connectivity, axis_name, downsample)
    stem_parts = dataclasses.replace(parts, pool=pool or "max")
    growth = layout.growth if width is None else width
    features = max(layout.stem_features * growth // layout.growth, 1)
    first = choose(_STEMS, layout.stem if stem is None else stem, "stem")(stem_parts, features)
    stages = [Stage("stem", first)]
    for i, depth in enumerate(layout.depths, start=1):
        block = densely_connected(parts, depth, growth, bottleneck=layout.reduced)
        features += depth * growth
        if i == len(layout.depths):
            stages.append(Stage(f"stage{i}", Sequential((Named("dense", block),))))
            continue
        features = features // 2 if layout.reduced else features
        down = Named("transition", transition(parts, features))
        stages.append(Stage(f"stage{i}", Sequential((Named("dense", block), down))))
    last = PreActivation(parts.detector, parts.normalisation())
    return Network((*stages, Stage("head", pooled_head(parts, num_classes, dropout, before=last))))


_STEMS: dict[str, Callable[[Parts, int], nn.Module]] = {
    "imagenet": lambda parts, features: parts.block(features, 7, strides=2, padding=3, pool=parts.pooling(3, 2, 1)),
    "small": lambda parts, features: parts.conv(features, 3, padding=1),
}

_LAYOUTS = {
    "densenet121": Layout((6, 12, 24, 16), 32, 64, "imagenet"),
    "densenet161": Layout((6, 12, 36, 24), 48, 96, "imagenet"),
    "densenet169": Layout((6, 12, 32, 32), 32, 64, "imagenet"),
    "densenet201": Layout((6, 12, 48, 32), 32, 64, "imagenet"),
    "densenet_40_12": Layout((12, 12, 12), 12, 16, "small", reduced=False),
    "densenet_bc_100_12": Layout((16, 16, 16), 12, 24, "small"),
}

DENSENETS: dict[str, Callable[..., Network]] = {
    name: functools.partial(densenet, layout) for name, layout in _LAYOUTS.items()
}
