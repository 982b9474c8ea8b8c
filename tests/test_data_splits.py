"""Stratified splits: exact shares, no example lost or seen twice, the same for ever."""

import hashlib

import numpy as np
import pytest

from cnnjax.data.splits import stratified, stratified_order

SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}


def test_shares_are_exact_in_every_class() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([3, 5, 9], [50, 100, 10]))
    parts = stratified(labels, SHARES)
    counts = {name: [int(np.sum(labels[index] == label)) for label in (3, 5, 9)] for name, index in parts.items()}
    assert counts == {"train": [35, 70, 7], "validation": [5, 10, 1], "test": [10, 20, 2]}


@pytest.mark.parametrize("size", [7, 23, 101])
def test_counts_are_within_one_of_the_shares(size: int) -> None:
    parts = stratified(np.zeros(size, np.int32), SHARES)
    for name, share in SHARES.items():
        assert abs(len(parts[name]) - share * size) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_disjoint_complete_and_ascending(seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, 137)
    parts = stratified(labels, SHARES)
    assert list(parts) == list(SHARES)
    assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(137))
    assert all(np.all(np.diff(index) > 0) for index in parts.values())


def test_members_are_drawn_and_not_taken_in_order() -> None:
    parts = stratified(np.zeros(1000, np.int32), {"train": 0.5, "test": 0.5})
    # The mean of 500 of 0..999 without replacement: 499.5, standard deviation 9.1.
    assert abs(parts["train"].mean() - 499.5) < 5 * 9.1
    assert not np.array_equal(parts["train"], np.arange(500))


def test_split_is_the_same_for_ever() -> None:
    parts = stratified(np.arange(1000) % 7, SHARES)
    digest = hashlib.sha256(b"".join(index.astype("<i8").tobytes() for index in parts.values()))
    assert digest.hexdigest() == "cc1b73db16dbf735ee1320ee641a4866d88b0d08e316b4c9a7a19cd24a27a5f8"


def test_global_generator_is_not_used() -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = stratified(np.arange(90) % 3, SHARES)
    assert np.array_equal(np.random.get_state()[1], before)
    np.random.seed(2)
    second = stratified(np.arange(90) % 3, SHARES)
    assert all(np.array_equal(first[name], second[name]) for name in SHARES)


@pytest.mark.parametrize("seed", range(3))
def test_every_beginning_of_the_order_is_stratified(seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat([3, 5, 9], [40, 90, 10]))
    order = stratified_order(labels)
    assert np.array_equal(np.sort(order), np.arange(140))
    for size in range(3, 141):
        for label, count in ((3, 40), (5, 90), (9, 10)):
            found = np.sum(labels[order[:size]] == label)
            assert found >= 1
            assert abs(found - count * size / 140) < 2


def test_order_is_drawn_and_the_same_for_ever() -> None:
    labels = np.arange(1000) % 2
    order = stratified_order(labels)
    # The mean of 500 of 0..999 without replacement: 499.5, standard deviation 9.1.
    assert abs(order[:500].mean() - 499.5) < 5 * 9.1
    found = hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()
    assert found == "f3626c3dbbad557e02311a5ffdb5e4d673b8a8735242b40d582c2cb4d027c03c"
