"""Networks with published weights, as the analyses take them."""

from pathlib import Path
from typing import Any

from cnnjax.analysis.subject import Subject
from cnnjax.models.torch_weights import published_network

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of the training images' red, green and blue, by which torchvision standardises pixels from 0 to 255."""

HALF_RANGE = (127.5, 127.5, 127.5)
"""GoogLeNet's published weights are for pixels scaled to [-1, 1]."""


def published(path: str | Path, name: str, **fields: Any) -> Subject:
    """A network with weights in torchvision's naming, to be shown images of pixels from 0 to 255, [N, *spatial, 3].

    Args:
      path, name, fields: as in `cnnjax.models.load_torch`.

    Raises:
      RequestError: as `cnnjax.models.load_torch`.
    """
    model, variables = published_network(path, name, **fields)
    mean, std = (HALF_RANGE, HALF_RANGE) if name == "googlenet" else (IMAGENET_MEAN, IMAGENET_STD)
    return Subject(model, variables, mean, std)
