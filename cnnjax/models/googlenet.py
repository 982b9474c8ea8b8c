"""GoogLeNet (Szegedy, Liu, Jia and others 2015, "Going deeper with convolutions")."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from cnnjax.config import RequestError, choose
from cnnjax.layers.auxiliary import AuxiliaryHead
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.heads import pooled_head
from cnnjax.layers.inception import Block, CeilPool, InceptionWidths, inception
from cnnjax.layers.input_range import RangeFromStandard
from cnnjax.layers.normalisation import NORMS, BatchNorm
from cnnjax.layers.parts import Parts
from cnnjax.layers.pooling import POOLS
from cnnjax.layers.region_pooling import REGION_POOLS
from cnnjax.layers.sequence import Named, Sequential
from cnnjax.models.network import Network, Stage

_WIDTH = 64
_STAGES: Mapping[str, Mapping[str, InceptionWidths]] = {
    "stage3": {
        "inception3a": InceptionWidths(64, 96, 128, 16, 32, 32),
        "inception3b": InceptionWidths(128, 128, 192, 32, 96, 64),
    },
    "stage4": {
        "inception4a": InceptionWidths(192, 96, 208, 16, 48, 64),
        "inception4b": InceptionWidths(160, 112, 224, 24, 64, 64),
        "inception4c": InceptionWidths(128, 128, 256, 24, 64, 64),
        "inception4d": InceptionWidths(112, 144, 288, 32, 64, 64),
        "inception4e": InceptionWidths(256, 160, 320, 32, 128, 128),
    },
    "stage5": {
        "inception5a": InceptionWidths(256, 160, 320, 32, 128, 128),
        "inception5b": InceptionWidths(384, 192, 384, 48, 128, 128),
    },
}
_AUXILIARY_BEHIND = {"inception4a": "auxiliary1", "inception4d": "auxiliary2"}
_AUXILIARY_DROPOUT = 0.7


@dataclasses.dataclass(frozen=True)
class _Form:
    """What the paper's network and torchvision's differ in.

    Attributes:
      norm: the default.
      window: of an inception module's third branch.
      last_pool: window of the pooling behind stage 4.
      dropout: the default.
      responses: whether the stem has local response normalisation.
      auxiliary_pool: in front of an auxiliary head: 14 x 14 to 4 x 4.
    """

    norm: str
    window: int
    last_pool: int
    dropout: float
    responses: bool
    auxiliary_pool: nn.Module


_FORMS = {
    "paper": _Form("none", 5, 3, 0.4, True, POOLS["average"](5, 3)),
    "torchvision": _Form("batch", 3, 2, 0.2, False, REGION_POOLS["adaptive_average"](size=4)),
}


def googlenet(
    num_classes: int,
    *,
    width: int = _WIDTH,
    stem: str = "imagenet",
    form: str = "torchvision",
    pool: str = "max",
    norm: str | None = None,
    act: str = "relu",
    padding: str = "same",
    init: str = "he",
    connectivity: str = "conv",
    auxiliary: bool = False,
    transform_input: bool = False,
    dropout: float | None = None,
    axis_name: str | None = None,
) -> Network:
    """A `stem` of three convolutions, the inception modules 3a to 5b (`stage3`, `stage4`, `stage5`), and a `head`.

    Args:
      num_classes: logits.
      width: features of the first convolution; all others in proportion, rounded down. Multiples of 8 are exact.
      stem: `imagenet`; or `small`, with a 3x3 for the 7x7, no strides and no pooling, for images such as CIFAR's.
      form: `torchvision`: batch norm with an epsilon of 0.001, and 3x3 in the place of 5x5; or `paper`: 5x5, no norm,
        and local response normalisation in the stem.
      pool: between the stages and in the modules.
      norm: where None, as the form has it: `batch` or `none`.
      auxiliary: whether there are the two auxiliary heads, behind 4a and 4d, which the training loss takes in
        (`cnnjax.train.loss.training_loss`). They double the parameters, and evaluation never runs them.
      transform_input: whether images standardised by ImageNet's means and deviations are brought to [-1, 1] first:
        what torchvision does where it loads its published weights, which were trained so.
      dropout: the rate before the head's dense layer; where None, as the form has it: 0.2, or the paper's 0.4.

    Raises:
      RequestError: for a value that a field does not take, or `valid` borders.
    """
    kind = choose(_FORMS, form, "form")
    parts = Parts(act, kind.norm if norm is None else norm, pool, padding, init, connectivity, axis_name)
    if padding == "valid":
        raise RequestError("padding 'valid' shrinks an inception module's branches; the others keep the grid")
    responses = kind.responses and norm is None
    block = _block_with_epsilon(parts)
    first = choose(_STEMS, stem, "stem")(parts, block, width, responses)
    if transform_input:
        first = Sequential((Named("transform", RangeFromStandard()), *first.layers))
    stages = [Stage("stem", first)]
    pools = {"stage3": CeilPool(parts, 3, 2), "stage4": CeilPool(parts, kind.last_pool, 2)}
    for stage, modules in _STAGES.items():
        layers = []
        for name, widths in modules.items():
            same_pool = parts.pooling(3, 1, 1)
            layers.append(Named(name, inception(block, same_pool, widths.scaled(width, _WIDTH), kind.window)))
            if auxiliary and name in _AUXILIARY_BEHIND:
                head = _auxiliary_head(parts, block, num_classes, width, kind.auxiliary_pool)
                layers.append(Named(_AUXILIARY_BEHIND[name], AuxiliaryHead(head)))
        if stage in pools:
            layers.append(Named("pool", pools[stage]))
        stages.append(Stage(stage, Sequential(tuple(layers))))
    rate = kind.dropout if dropout is None else dropout
    return Network((*stages, Stage("head", pooled_head(parts, num_classes, rate))))


def _block_with_epsilon(parts: Parts) -> Block:
    """`parts.block`, with torchvision's epsilon in batch norm, which is TensorFlow's."""

    def block(features: int, window: int, **fields: Any) -> nn.Module:
        made = parts.block(features, window, **fields)
        return made.clone(norm=made.norm.clone(epsilon=1e-3)) if isinstance(made.norm, BatchNorm) else made

    return block


def _imagenet_stem(parts: Parts, block: Block, width: int, responses: bool) -> Sequential:
    """Convolutions of 7x7, 1x1 and 3x3 with pooling behind the first and the last: an eighth of the grid."""
    first = block(width, 7, strides=2, padding=3, pool=CeilPool(parts, 3, 2))
    return _stem(block, first, width, responses, CeilPool(parts, 3, 2))


def _small_stem(parts: Parts, block: Block, width: int, responses: bool) -> Sequential:
    """The same with a 3x3 at first, on the grid as it is."""
    del parts
    return _stem(block, block(width, 3, padding=1), width, responses, None)


_STEMS = {"imagenet": _imagenet_stem, "small": _small_stem}


def _stem(block: Block, first: nn.Module, width: int, responses: bool, pool: nn.Module | None) -> Sequential:
    reduction, last = block(width, 1, padding=0), block(3 * width, 3, padding=1)
    layers: list[tuple[str, nn.Module | None]] = [
        ("conv1", first),
        ("response1", NORMS["local_response"](None) if responses else None),
        ("conv2", reduction),
        ("conv3", last),
        ("response3", NORMS["local_response"](None) if responses else None),
        ("pool3", pool),
    ]
    return Sequential(tuple(Named(name, layer) for name, layer in layers if layer is not None))


def _auxiliary_head(parts: Parts, block: Block, num_classes: int, width: int, pool: nn.Module) -> Sequential:
    """The paper's section 5: pooling to 4 x 4, a 1x1 convolution, a dense layer, dropout, and the logits."""
    return Sequential(
        (
            Named("pool", pool),
            Named("conv", block(2 * width, 1, padding=0)),
            Named("dense", parts.dense(16 * width)),
            Named("dropout", Dropout(_AUXILIARY_DROPOUT, parts.axis_name)),
            Named("logits", parts.linear_head(num_classes)),
        )
    )


GOOGLENETS = {"googlenet": googlenet}
