"""The device-resident feed: the order of each epoch, and what a network sees of an image."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.dataset import Split
from cnnjax.data.feed import epoch_order, resident, standardise


def test_feed_holds_the_split_in_its_own_dtype() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 3, 1), np.uint8)
    feed = resident(Split(images, np.array([2, 0, 1, 2], np.int32)))
    assert feed.images.dtype == jnp.uint8
    assert np.array_equal(feed.images, images)
    assert feed.labels.tolist() == [2, 0, 1, 2]


def test_order_is_a_permutation() -> None:
    order = epoch_order(jax.random.key(0), jnp.int32(3), 101)
    assert not np.array_equal(order, np.arange(101))
    assert sorted(order.tolist()) == list(range(101))


def test_order_depends_on_the_key_and_the_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return epoch_order(jax.random.key(seed), jnp.int32(epoch), 50).tolist()

    assert order(0, 1) == order(0, 1)
    different = [order(0, 0), order(0, 1), order(0, 2), order(1, 0), order(1, 1)]
    assert len({tuple(values) for values in different}) == 5


def test_standardise_takes_each_channel_by_itself() -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), np.uint8)
    mean, std = (1.0, 20.0, 130.0), (2.0, 3.0, 70.0)
    result = standardise(jnp.asarray(images), mean, std)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, (images - np.array(mean)) / np.array(std), rtol=1e-6, atol=1e-6)


def test_standardised_training_split_has_mean_0_and_variance_1() -> None:
    signals = np.random.default_rng(0).normal(3, 5, (200, 9, 2)).astype(np.float32)
    mean, std = signals.mean((0, 1)), signals.std((0, 1))
    result = np.asarray(standardise(jnp.asarray(signals), tuple(mean.tolist()), tuple(std.tolist())))
    np.testing.assert_allclose(result.mean((0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(result.var((0, 1)), 1, atol=1e-5)
