"""1,797 digits of 8 x 8 pixels."""

import numpy as np
import tensorflow_datasets as tfds

from cnnjax.data.builders.arrays import ArrayBuilder, Arrays, split_once


class Builder(ArrayBuilder):
    """scikit-learn's digits; their 17 grey levels are spread over 0..255."""

    VERSION = tfds.core.Version("1.0.0")
    SHAPE = (8, 8, 1)
    DTYPE = np.uint8
    DESCRIPTION = "1,797 handwritten digits (Alpaydin and Kaynak 1998), as shipped by scikit-learn; stratified splits."

    def splits(self) -> dict[str, Arrays]:
        """Images [N, 8, 8] in 0..255 and labels [N]."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        return split_once(np.rint(digits.images * (255 / 16)), digits.target)
