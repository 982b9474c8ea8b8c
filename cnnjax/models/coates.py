"""The single-layer network of Coates, Ng and Lee 2011, "An analysis of single-layer networks in unsupervised feature
learning"."""

from cnnjax.config import choose
from cnnjax.layers.coding import CODES, CentroidCode, PatchWhitening
from cnnjax.layers.dense import Dense
from cnnjax.layers.region_pooling import REGION_POOLS
from cnnjax.models.network import Network, Stage


def coates(num_classes: int, *, width: int = 100, kernel_size: int = 6, act: str = "triangle") -> Network:
    """Whitened patches at stride 1, coded by centroids, pooled over quadrants, and a linear `head`.

    `whiten` normalises the contrast of each patch and maps it linearly: until something is fitted, by the identity.
    `code` relates it to `width` centroids, `pool` takes the mean over each quadrant (of a sequence over each half, of a
    volume over each octant; the paper takes the sum, which differs by a constant factor). It takes as many spatial
    dimensions as its input has.

    Args:
      num_classes: logits of the head.
      width: centroids; 100 to 4000 in the paper.
      kernel_size: the patch's size along every dimension.
      act: the code, a key of `cnnjax.layers.coding.CODES`; `triangle` is the paper's best.

    Raises:
      RequestError: for a code that is not there.
    """
    return Network(
        (
            Stage("whiten", PatchWhitening(kernel_size)),
            Stage("code", CentroidCode(width, choose(CODES, act, "act"))),
            Stage("pool", REGION_POOLS["adaptive_average"](2)),
            Stage("head", Dense(num_classes)),
        )
    )
