"""Which classes a network takes for which."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import share_interval, sums
from cnnjax.analysis.subject import Subject, logits_of
from cnnjax.train.targets import check_labels


def confusion_matrix(subject: Subject, images: np.ndarray, labels: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
    """How many images of each class the network takes for each class, int64 [classes, classes]
    (Kohavi and Provost 1998, "Glossary of terms").

    Row i, column j counts the images of class i whose greatest logit is j's; of equal logits the first counts. The
    diagonal over all is the accuracy.

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units.
      labels: [N] integers.
      batch_size: images at a time.

    Raises:
      ValueError: if a label is no class of the network, or there are not as many labels as images.
    """
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), np.float32)
    classes = jax.eval_shape(logits_of, subject, one).shape[-1]
    check_labels(labels, classes)
    return sums(functools.partial(_counts, subject), (images, labels), batch_size).astype(np.int64)


def class_recall(matrix: np.ndarray) -> list[Finding]:
    """`recall/<class>`: the share of a class's images that are classed rightly, and `recall/all`, of all images, in
    0 ... 1.

    They are the diagonal of a confusion matrix over the sum of its row, and all of it over all. The intervals are over
    images (Wilson's); a class of which there are none is left out.

    Args:
      matrix: [classes, classes], as from `confusion_matrix`.
    """
    counts = {str(label): (int(row[label]), int(row.sum())) for label, row in enumerate(matrix)}
    counts["all"] = int(np.trace(matrix)), int(matrix.sum())
    findings = []
    for name, (right, examples) in counts.items():
        if examples:
            low, value, high = share_with_interval(right, examples)
            findings.append(Finding(f"recall/{name}", value, low=low, high=high))
    return findings


def share_with_interval(count: int, examples: int) -> tuple[float, float, float]:
    """The share of examples that are counted, within its 95% interval (Wilson's)."""
    low, high = share_interval(count, examples)
    return low, count / examples, high


@jax.jit
def _counts(subject: Subject, mask: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
    logits = logits_of(subject, images)
    classes = logits.shape[-1]
    return jnp.zeros((classes, classes), jnp.int32).at[labels, logits.argmax(-1)].add(mask.astype(jnp.int32))
