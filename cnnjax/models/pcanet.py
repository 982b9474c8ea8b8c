"""PCANet (Chan and others 2015, "PCANet: a simple deep learning baseline for image classification?")."""

from cnnjax.config import RequestError
from cnnjax.layers.hashing import EachChannel, SignHistograms
from cnnjax.layers.parts import Parts
from cnnjax.models.network import Network, Stage

# 2^12 bins for each of 12 maps and every block: more features than any memory holds soon after.
_MOST_BITS = 12


def pcanet(
    num_classes: int,
    *,
    width: int = 8,
    kernel_size: int = 7,
    pool_size: int = 7,
    padding: str = "same",
    init: str = "he",
) -> Network:
    """Two stages of linear filters, histograms of the signs of what they give, and a linear `head`.

    `stage1` has `width` filters; `stage2` applies the same `width` filters to each map of `stage1` alone. `hash` reads
    the signs of the maps that stem from one map as the bits of a number, and counts the 2^`width` numbers in blocks
    that overlap by half: `width` * 2^`width` shares for each block. (The paper counts positions; a share is that over a
    block's size.) The defaults are the paper's for MNIST. It takes as many spatial dimensions as its input has.

    No gradient reaches the filters, for a comparison with 0 has none: they are to be fitted or drawn, and frozen. The
    paper removes each patch's mean and has no biases; here a fit folds its mean into kernel and bias.

    Args:
      num_classes: logits of the head.
      width: filters of each stage, at most 12.
      kernel_size: the window of both stages.
      pool_size: the block of the histograms.
      padding, init: as in `cnnjax.layers.parts.Parts`.

    Raises:
      RequestError: for a name that is not there, or more filters than that.
    """
    if width > _MOST_BITS:
        raise RequestError(f"pcanet has at most {_MOST_BITS} filters, for 2^width bins; given width {width}")
    parts = Parts(padding=padding, init=init)
    return Network(
        (
            Stage("stage1", parts.conv(width, kernel_size)),
            Stage("stage2", EachChannel(parts.conv(width, kernel_size))),
            Stage("hash", SignHistograms(width, pool_size)),
            Stage("head", parts.linear_head(num_classes)),
        )
    )
