"""Squares of one size out of images of any size, as is customary on ImageNet; by Pillow."""

import math

import numpy as np
import PIL.Image

Box = tuple[int, int, int, int]

AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)

_TRIES = 10


def training_square(image: PIL.Image.Image, size: int, generator: np.random.RandomState) -> PIL.Image.Image:
    """A random part of the image, resized to `size` x `size` (bilinear), and mirrored half of the times.

    The crop of Szegedy et al. 2015, *Going deeper with convolutions*, section 6.
    """
    square = image.crop(random_box(image.width, image.height, generator)).resize((size, size), _BILINEAR)
    return square.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT) if generator.random_sample() < 0.5 else square


def evaluation_square(image: PIL.Image.Image, size: int) -> PIL.Image.Image:
    """The middle `size` x `size` of the image, its shorter side first resized to 256/224 of that (bilinear)."""
    short = round(size * 256 / 224)
    scale = short / min(image.size)
    width, height = (short if side == min(image.size) else int(side * scale) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), _BILINEAR).crop((left, top, left + size, top + size))


def random_box(width: int, height: int, generator: np.random.RandomState) -> Box:
    """The left, top, right and bottom of a random part of an image, in pixels.

    Its area is a share of the image's, uniform over `AREA`, its ratio of width to height log-uniform over `ASPECT`, its
    place uniform. Where ten draws do not fit into the image, it is the largest box in its middle within `ASPECT`.
    """
    low, high = map(math.log, ASPECT)
    for _ in range(_TRIES):
        area = width * height * generator.uniform(*AREA)
        aspect = math.exp(generator.uniform(low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = generator.randint(width - w + 1), generator.randint(height - h + 1)
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * ASPECT[1])))
    h = min(height, max(1, round(width / ASPECT[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


_BILINEAR = PIL.Image.Resampling.BILINEAR
