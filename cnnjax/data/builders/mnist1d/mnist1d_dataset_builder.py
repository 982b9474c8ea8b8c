"""MNIST-1D, generated from its published recipe."""

import hashlib

import numpy as np
import tensorflow_datasets as tfds

from cnnjax.data.builders.arrays import ArrayBuilder, Arrays

# Of the arrays rounded to 1e-5, so that the last bits of another machine's mathematical library do not matter.
PINNED_SHA256 = "aa144f48d55013007874221178dd1cc964eea5d3834a2b8745313c5388622886"


class Builder(ArrayBuilder):
    """Ten one-dimensional digits of 40 samples (Greydanus 2020): 4,000 train and 1,000 test."""

    VERSION = tfds.core.Version("1.0.0")
    SHAPE = (40, 1)
    DTYPE = np.float32
    DESCRIPTION = "MNIST-1D (Greydanus 2020) from its default arguments: 4,000 train and 1,000 test."

    def splits(self) -> dict[str, Arrays]:
        """Signals [N, 40] of mean 0 and variance 1, and labels [N].

        Raises:
          RuntimeError: if the recipe no longer gives the published arrays.
        """
        from mnist1d.data import get_dataset_args, make_dataset

        before = np.random.get_state()
        try:
            arrays = make_dataset(get_dataset_args())  # draws from NumPy's global generator
        finally:
            np.random.set_state(before)
        digest = fingerprint(arrays["x"], arrays["y"], arrays["x_test"], arrays["y_test"])
        if digest != PINNED_SHA256:
            raise RuntimeError(f"mnist1d's recipe gave arrays of SHA-256 {digest}, not the pinned {PINNED_SHA256}")
        return {"train": (arrays["x"], arrays["y"]), "test": (arrays["x_test"], arrays["y_test"])}


def fingerprint(*arrays: np.ndarray) -> str:
    """The SHA-256 of the arrays, rounded to five decimals."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.rint(np.asarray(array, np.float64) * 1e5).astype("<i8").tobytes())
    return digest.hexdigest()
