"""Keys are functions of the seed and a name, in this process and in any other."""

import jax
import numpy as np

from cnnjax.ops.keys import fold_in_name, stream_key


def test_names_are_hashed_by_crc32_in_every_process() -> None:
    check_value = 0xCBF43926  # of the digits 1 to 9, in the catalogue of CRC algorithms
    key = jax.random.key(7)
    expected = jax.random.key_data(jax.random.fold_in(key, check_value))
    np.testing.assert_array_equal(jax.random.key_data(fold_in_name(key, "123456789")), expected)


def test_each_seed_and_stream_has_its_own_key() -> None:
    keys = [stream_key(seed, name) for seed in range(3) for name in ("params", "order", "dropout")]
    assert len({tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}) == 9


def test_names_nest_in_order() -> None:
    key = jax.random.key(0)
    one = fold_in_name(fold_in_name(key, "a"), "b")
    other = fold_in_name(fold_in_name(key, "b"), "a")
    assert (jax.random.key_data(one) != jax.random.key_data(other)).any()


def test_traced_and_batched_seeds_give_the_same_keys() -> None:
    seeds = np.arange(4)
    batched = jax.jit(jax.vmap(lambda seed: stream_key(seed, "order")))(seeds)
    single = [jax.random.key_data(stream_key(int(seed), "order")) for seed in seeds]
    np.testing.assert_array_equal(jax.random.key_data(batched), np.stack(single))
