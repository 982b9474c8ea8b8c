"""AlexNet (Krizhevsky, Sutskever and Hinton 2012), and its one-column form (Krizhevsky 2014)."""

import dataclasses
import functools
from typing import Any

from flax import linen as nn

from cnnjax.config import RequestError, choose
from cnnjax.layers.blocks import ConvBlock
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.normalisation import LocalResponseNorm
from cnnjax.layers.parts import Parts
from cnnjax.layers.region_pooling import REGION_POOLS
from cnnjax.layers.sequence import Named, Sequential
from cnnjax.models.network import Network, Stage


@dataclasses.dataclass(frozen=True)
class _Form:
    """What the two published forms differ in."""

    features: tuple[int, ...]
    first_pad: int
    groups: tuple[int, ...]
    responses: bool
    adaptive: bool


FORMS = {
    "one_column": _Form((64, 192, 384, 256, 256), 2, (1, 1, 1, 1, 1), responses=False, adaptive=True),
    "2012": _Form((96, 256, 384, 384, 256), 0, (1, 2, 1, 2, 2), responses=True, adaptive=False),
}
_OTHERS: tuple[dict[str, Any], ...] = (
    {"kernel_size": 5, "padding": 2},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1},
)
_POOLED = (0, 1, 4)
_DENSE = 4096


def alexnet(
    num_classes: int,
    *,
    form: str = "one_column",
    width: int | None = None,
    stem: str = "imagenet",
    pool: str = "max",
    norm: str | None = None,
    act: str = "relu",
    padding: str = "same",
    init: str = "he",
    connectivity: str = "conv",
    dropout: float = 0.5,
    axis_name: str | None = None,
) -> Network:
    """Five convolutions (`stage1` to `stage5`), pooled by 3 at stride 2 behind the first, second and fifth; two dense
    layers of 4096 (`stage6`, `stage7`), each behind dropout; and a linear `head`.

    - `one_column`, as in torchvision: 64, 192, 384, 256 and 256 maps, and adaptive average pooling to 6 x 6 before the
      dense layers. 61,100,840 parameters on 224 x 224 x 3 with 1000 classes.
    - `2012`: 96, 256, 384, 384 and 256 maps, the second, fourth and fifth convolution in two groups, local response
      normalisation behind the detector of the first and second. 60,965,224 parameters on 227 x 227 x 3.

    Args:
      num_classes: logits of the head.
      form: `one_column` or `2012`.
      width: maps of the first convolution, all other layers in proportion; when None the form's.
      stem: `imagenet`, 11 x 11 at stride 4; or `small`, for images of about 32 x 32: 3 x 3 at stride 1, and adaptive
        pooling to 3 x 3 where the form has it.
      norm: between each convolution and its detector; when None what the form has.
      pool, act, padding, init, connectivity: as in `cnnjax.layers.parts.Parts`.
      dropout: the rate.
      axis_name: the axis of `jax.pmap` that batch statistics are shared over; None for one device.

    Raises:
      RequestError: for a name that is not there, or a width that two groups do not divide.
    """
    plan = choose(FORMS, form, "form of alexnet")
    small = choose({"imagenet": False, "small": True}, stem, "stem")
    parts = Parts(act, norm or "none", pool, padding, init, connectivity, axis_name)
    width = plan.features[0] if width is None else width
    if width % plan.groups[1]:
        raise RequestError(f"alexnet in two groups needs an even width; given {width}")
    scaled = functools.partial(_scaled, width=width, plan=plan)
    first = {"kernel_size": 3, "padding": 1} if small else {"kernel_size": 11, "strides": 4, "padding": plan.first_pad}
    stages = []
    for i, fields in enumerate((first, *_OTHERS)):
        block = parts.block(scaled(plan.features[i]), groups=plan.groups[i], use_bias=True, **fields)
        if i in _POOLED:
            block = _pooled(block, parts.pooling(3, 2), normalised=plan.responses and norm is None and i < 2)
        stages.append(Stage(f"stage{i + 1}", block))
    pools = (Named("pool", REGION_POOLS["adaptive_average"](3 if small else 6)),) if plan.adaptive else ()
    for name, before in {"stage6": pools, "stage7": ()}.items():
        dropped = (Named("dropout", Dropout(dropout, axis_name)), Named("block", parts.dense(scaled(_DENSE))))
        stages.append(Stage(name, Sequential((*before, *dropped))))
    return Network((*stages, Stage("head", parts.linear_head(num_classes))))


def _pooled(block: ConvBlock, pool: nn.Module, *, normalised: bool) -> ConvBlock:
    """The block with a pool; between them, behind the detector, the paper's normalisation of responses."""
    if not normalised:
        return block.clone(pool=pool)
    return block.clone(pool=Sequential((Named("norm", LocalResponseNorm()), Named("pool", pool))), pool_first=False)


def _scaled(features: int, *, width: int, plan: _Form) -> int:
    """The features of a layer in proportion to the width, a multiple of the groups."""
    groups = max(plan.groups)
    return groups * max(round(features * width / plan.features[0] / groups), 1)
