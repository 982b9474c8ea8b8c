"""Choosing examples so that every class is among them in proportion."""

import numpy as np


def stratified(labels: np.ndarray, shares: dict[str, float]) -> dict[str, np.ndarray]:
    """The indices of each part, ascending; the same ones on every machine and for ever.

    Within each class the examples are permuted by NumPy's frozen legacy generator with seed 0; the cuts are at the
    rounded cumulative shares.

    Args:
      labels: [N] integers.
      shares: of each part by name; they sum to 1.
    """
    chosen: dict[str, list[np.ndarray]] = {name: [] for name in shares}
    generator = np.random.RandomState(0)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(np.cumsum(list(shares.values()))[:-1] * len(members)).astype(int)
        for name, part in zip(shares, np.split(members, cuts), strict=True):
            chosen[name].append(part)
    return {name: np.sort(np.concatenate(parts)) for name, parts in chosen.items()}


def stratified_order(labels: np.ndarray) -> np.ndarray:
    """An order of all examples [N] of which every beginning is stratified; the same on every machine and for ever.

    One of each class comes first. Within each class the order is a permutation by NumPy's frozen legacy generator with
    seed 0; the k-th of a class of n (k from 0) is placed at k / n.

    Args:
      labels: [N] integers.
    """
    places = np.empty(len(labels))
    generator = np.random.RandomState(0)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        places[members] = np.arange(len(members)) / len(members)
    return np.argsort(places, kind="stable")
