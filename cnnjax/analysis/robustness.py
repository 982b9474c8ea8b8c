"""How accuracy falls as an attack may move the pixels farther, and for whom else its images are adversarial."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.attacks import Attack, attacked, check_attackable
from cnnjax.analysis.confusion import share_with_interval
from cnnjax.analysis.findings import Finding
from cnnjax.analysis.streaming import batches, moments
from cnnjax.analysis.subject import Subject, logits_of


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Accuracy on adversarial examples that were made for another network.

    Attributes:
      names: of the networks, S.
      accuracy: in [0, 1], float64 [made for, shown to], [S, S]; on its diagonal each network is attacked itself.
      low, high: the ends of its 95% intervals over images (Wilson's), [S, S].
    """

    names: tuple[str, ...]
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray


def robustness_curve(
    subject: Subject,
    images: np.ndarray,
    labels: np.ndarray,
    method: str,
    norm: str,
    epsilons: Sequence[float],
    key: jax.Array,
    steps: int = 10,
    batch_size: int = 256,
    *,
    step_size: float | None = None,
    targets: np.ndarray | None = None,
) -> list[Finding]:
    """Accuracy under attack against epsilon (Goodfellow and others 2015; Madry and others 2018).

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units, legal.
      labels: [N], whole numbers: the true classes.
      method: `fgsm` or `pgd`, see `cnnjax.analysis.attacks`.
      norm: `linf` or `l2`.
      epsilons: how far the attack may go, each as a share of the range of legal pixels; 0 is no attack. All share one
        compilation.
      key: of `pgd`'s starting points, the same at all epsilons.
      steps: of `pgd`.
      batch_size: images at a time.
      step_size: of `pgd`, see `Attack`.
      targets: [N], another class for each image, for the targeted attack.

    Returns:
      For each epsilon, as its magnitude, `<method>_<norm>/accuracy`: the share of images that the attack leaves right.
      With targets instead `<method>_<norm>_targeted/success`: the share that it brings to the target. What a smaller
      epsilon did counts for a greater one, in whose ball it lies, and is not tried again. In [0, 1], with intervals
      over images.

    Raises:
      ValueError: for what the attacks refuse, no epsilon, or a target that is the true class.
    """
    if len(epsilons) == 0:
        raise ValueError("a curve needs at least one epsilon")
    attack = Attack(method, norm, targets is not None, steps, step_size)
    check_attackable(subject, images, labels)
    if targets is not None:
        check_attackable(subject, images, targets)
        if np.any(targets == labels):
            raise ValueError(f"{np.sum(targets == labels)} of {len(labels)} targets are the true class")

    aims = labels if targets is None else targets
    falls_at = np.full(len(images), np.inf)
    for epsilon in sorted(epsilons):
        standing = np.flatnonzero(falls_at == np.inf)
        rows = aims[standing], standing
        for mask, classes, places in batches(rows, batch_size) if len(standing) else ():
            moved = attacked(attack, subject, images[places], classes, places, epsilon, key)
            taken = np.asarray(_predicted(subject, moved)) == classes
            fell = taken if targets is not None else ~taken
            falls_at[places[mask & fell]] = epsilon
    metric = f"{attack.name}/{'accuracy' if targets is None else 'success'}"
    findings = []
    for epsilon in epsilons:
        counted = falls_at <= epsilon if targets is not None else falls_at > epsilon
        low, share, high = share_with_interval(int(counted.sum()), len(images))
        findings.append(Finding(metric, share, magnitude=float(epsilon), low=low, high=high))
    return findings


def other_classes(labels: np.ndarray, classes: int, key: jax.Array) -> np.ndarray:
    """For each label [N] one of the other classes, drawn uniformly: int32 [N], targets for `robustness_curve`.

    Raises:
      ValueError: for fewer than 2 classes.
    """
    if classes < 2:
        raise ValueError(f"another class needs at least 2 classes, not {classes}")
    ahead = np.asarray(jax.random.randint(key, labels.shape, 1, classes))
    return ((labels.astype(np.int32) + ahead) % classes).astype(np.int32)


def transfer_matrix(
    subjects: Mapping[str, Subject],
    images: np.ndarray,
    labels: np.ndarray,
    method: str,
    norm: str,
    epsilon: float,
    key: jax.Array,
    steps: int = 10,
    batch_size: int = 256,
    *,
    step_size: float | None = None,
) -> Transfer:
    """The accuracy of each network on the adversarial examples made for each (Szegedy and others 2014).

    Args:
      subjects: networks of the same classes and legal pixels, by name; those of one model share one compilation.
      images, labels, method, norm, key, steps, batch_size, step_size: as in `robustness_curve`.
      epsilon: how far the attack may go, as a share of the range of legal pixels.

    Raises:
      ValueError: as `robustness_curve`, for no network, and for networks of different legal pixels.
    """
    attack = Attack(method, norm, steps=steps, step_size=step_size)
    ranges = {(subject.low, subject.high) for subject in subjects.values()}
    if len(ranges) != 1:
        raise ValueError(f"transfer is between networks of one range of legal pixels; given {sorted(ranges)}")
    for subject in subjects.values():
        check_attackable(subject, images, labels)

    def hits(images: jax.Array, labels: jax.Array, places: jax.Array) -> np.ndarray:
        rows = []
        for maker in subjects.values():
            moved = attacked(attack, maker, images, labels, places, epsilon, key)
            rows.append(np.stack([_predicted(viewer, moved) == labels for viewer in subjects.values()], axis=-1))
        return np.stack(rows, axis=1)

    share = moments(hits, (images, labels, np.arange(len(images))), batch_size)
    return Transfer(tuple(subjects), share.mean, *share.share_interval())


@jax.jit
def _predicted(subject: Subject, images: jax.Array) -> jax.Array:
    return jnp.argmax(logits_of(subject, images), axis=-1)
