"""Labels, and the targets of a regression on them."""

import jax
import numpy as np


def check_labels(labels: jax.Array | np.ndarray, classes: int) -> None:
    """Raises ValueError if the labels are not one axis of integers in 0 ... classes - 1."""
    values = np.asarray(labels)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers [N], not {values.dtype} {list(values.shape)}")
    if values.size and not (values.min() >= 0 and values.max() < classes):
        raise ValueError(f"labels must be in 0 ... {classes - 1}; they span {values.min()} ... {values.max()}")


def one_hot_targets(labels: jax.Array | np.ndarray, classes: int) -> jax.Array:
    """Targets [N, classes], float32: 1 at the label and 0 elsewhere.

    Raises:
      ValueError: if a label is not in 0 ... classes - 1.
    """
    check_labels(labels, classes)
    return _one_hot(labels, classes)


_one_hot = jax.jit(jax.nn.one_hot, static_argnums=1)
