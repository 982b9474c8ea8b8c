"""Residual networks for ImageNet (He, Zhang, Ren and Sun 2016), and the plain networks of the same layers."""

import dataclasses
import functools
from collections.abc import Callable

from flax import linen as nn

from cnnjax.config import RequestError, choose
from cnnjax.layers.heads import pooled_head
from cnnjax.layers.parts import Parts
from cnnjax.layers.preactivation import PreActivation
from cnnjax.layers.residual import BlockKind, residual_block
from cnnjax.layers.sequence import Named, Sequential
from cnnjax.models.network import Network, Stage


@dataclasses.dataclass(frozen=True)
class Layout:
    """The kind of the blocks, and how many there are in each stage."""

    block: BlockKind
    depths: tuple[int, ...]


def resnet(
    layout: Layout,
    num_classes: int,
    *,
    width: int = 64,
    stem: str = "imagenet",
    form: str = "v1.5",
    shortcut: str = "projected",
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
    """A `stem`, a stage of residual blocks for each depth (`stage1`, ...), and a `head` on the mean over positions.

    A stage but the first halves the grid and doubles the features. See `cnnjax.layers.residual.residual_block` for
    `form` and `shortcut`, and `residual_network` for the rest.

    Args:
      layout: blocks.
      num_classes: logits.
      width: features of the stem and the first stage's blocks.
      stem: `imagenet`, a convolution of 7x7 at stride 2 and pooling by windows of 3 at stride 2; or `small`, a
        convolution of 3x3 at stride 1, for images such as CIFAR's.
      form: `v1.5`, which is torchvision's, or `preactivation`.
      shortcut: `projected`, `padded` or `none`.
      pool: of the stem `imagenet`; max where None.
      downsample: `stride` or `blur`; see `residual_block`, and of the stem's pooling `cnnjax.layers.parts.Parts`.
      dropout: the rate before the head's dense layer.

    Raises:
      RequestError: for a value that a field does not take, `valid` borders, or `pool` with the stem `small`.
    """
    parts = Parts(act, norm, pool or "max", padding, init, connectivity, axis_name, downsample)
    if stem == "small" and pool is not None:
        raise RequestError(
            f"stem 'small' has no pooling that could be {pool!r}; leave pool out, or take stem 'imagenet'"
        )
    first = choose(_STEMS, stem, "stem")(parts, width)
    return residual_network(layout, num_classes, parts, first, width, form=form, shortcut=shortcut, dropout=dropout)


def residual_network(
    layout: Layout,
    num_classes: int,
    parts: Parts,
    stem: nn.Module,
    width: int,
    *,
    form: str,
    shortcut: str,
    dropout: float,
) -> Network:
    """A stem with norm and detector, then stages of residual blocks and the head.

    With pre-activation the first block takes the stem's detector for its own, and the head begins with the last one
    (He 2016b, appendix).
    """
    stages = [Stage("stem", stem)]
    for i, depth in enumerate(layout.depths):
        blocks = [
            residual_block(
                parts,
                layout.block,
                width * 2**i,
                2 if i > 0 and j == 0 else 1,
                form=form,
                shortcut=shortcut,
                activated=i == 0 and j == 0,
            )
            for j in range(depth)
        ]
        named = tuple(Named(f"block{j}", block) for j, block in enumerate(blocks, start=1))
        stages.append(Stage(f"stage{i + 1}", Sequential(named)))
    last = PreActivation(parts.detector, parts.normalisation()) if form == "preactivation" else None
    return Network((*stages, Stage("head", pooled_head(parts, num_classes, dropout, before=last))))


def small_stem(parts: Parts, features: int) -> nn.Module:
    """A 3x3 convolution at stride 1, norm and detector."""
    return parts.block(features, 3, padding=1)


def imagenet_stem(parts: Parts, features: int) -> nn.Module:
    """A 7x7 convolution at stride 2, norm and detector, and pooling by windows of 3 at stride 2."""
    return parts.block(features, 7, strides=2, padding=3, pool=parts.pooling(3, 2, 1))


_STEMS = {"imagenet": imagenet_stem, "small": small_stem}


_LAYOUTS = {
    18: Layout("basic", (2, 2, 2, 2)),
    34: Layout("basic", (3, 4, 6, 3)),
    50: Layout("bottleneck", (3, 4, 6, 3)),
    101: Layout("bottleneck", (3, 4, 23, 3)),
    152: Layout("bottleneck", (3, 8, 36, 3)),
    200: Layout("bottleneck", (3, 24, 36, 3)),
}

RESNETS: dict[str, Callable[..., Network]] = {
    f"resnet{depth}": functools.partial(resnet, layout) for depth, layout in _LAYOUTS.items()
}
PLAIN: dict[str, Callable[..., Network]] = {
    f"plain{depth}": functools.partial(resnet, layout, shortcut="none") for depth, layout in _LAYOUTS.items()
}
