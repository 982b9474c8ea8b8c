"""Networks with published weights, as the analyses take them."""

from pathlib import Path
from typing import Any

from cnnjax.analysis.subject import Subject
from cnnjax.models.torch_weights import published_network

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of the training images' red, green and blue, by which torchvision standardises pixels from 0 to 255."""


def published(path: str | Path, name: str, **fields: Any) -> Subject:
    """A network with weights in torchvision's naming, to be shown images of pixels from 0 to 255, [N, *spatial, 3].

    Args:
      path, name, fields: as in `cnnjax.models.load_torch`; unless said otherwise, `googlenet` has
        `transform_input=True`, as its published weights want it.

    Raises:
      RequestError: as `cnnjax.models.load_torch`.
    """
    own = {"transform_input": True} if name == "googlenet" else {}
    model, variables = published_network(path, name, **(own | fields))
    return Subject(model, variables, IMAGENET_MEAN, IMAGENET_STD)
