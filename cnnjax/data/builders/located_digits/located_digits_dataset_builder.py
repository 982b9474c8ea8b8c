"""Digits somewhere on a canvas, labelled by where they are."""

import numpy as np
import tensorflow_datasets as tfds

from cnnjax.data.builders.arrays import ArrayBuilder, Arrays, split_once

SIDE = 8
PLACES = 3


class Builder(ArrayBuilder):
    """scikit-learn's digits, each at one of 3 x 3 places of a black canvas of 24 x 24 pixels.

    The label is the place, from 0 at the top left, row by row; which digit it is says nothing of it. What the digits
    look like is the same at all places, so that only where they are can tell them apart.
    """

    VERSION = tfds.core.Version("1.0.0")
    SHAPE = (PLACES * SIDE, PLACES * SIDE, 1)
    DTYPE = np.uint8
    DESCRIPTION = "scikit-learn's 1,797 digits of 8x8 pixels on a black canvas of 24x24; classified by their place."
    CLASSES = PLACES**2

    def splits(self) -> dict[str, Arrays]:
        """Images [N, 24, 24] in 0..255 and labels [N], as many of each place as can be, drawn once and for ever."""
        from sklearn.datasets import load_digits

        digits = np.rint(load_digits().images * (255 / 16))
        places = np.random.RandomState(0).permutation(np.arange(len(digits)) % PLACES**2)
        canvases = np.zeros((len(digits), PLACES, SIDE, PLACES, SIDE))
        canvases[np.arange(len(digits)), places // PLACES, :, places % PLACES] = digits
        return split_once(canvases.reshape(-1, *self.SHAPE[:2]), places)
