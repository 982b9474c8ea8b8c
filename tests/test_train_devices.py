"""The devices' axis, and batches that they do not divide."""

import re

import jax
import numpy as np
import pytest

from cnnjax.config import RequestError
from cnnjax.train.devices import AXIS, check_divides, replicate, shards, spread


@pytest.mark.parametrize(
    ("devices", "batch", "sizes"), [(8, 20, "16 or 24"), (8, 5, "8"), (3, 64, "63 or 66"), (8, 15, "8 or 16")]
)
def test_batch_that_is_not_divided_gives_sizes_that_would_do(
    monkeypatch: pytest.MonkeyPatch, devices: int, batch: int, sizes: str
) -> None:
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    wanted = f"config.train.batch_size: {devices} devices do not divide a batch of {batch}; {sizes} would do"
    with pytest.raises(RequestError, match=re.escape(wanted)):
        check_divides("config.train.batch_size", batch)
    for size in map(int, sizes.split(" or ")):
        check_divides("config.train.batch_size", size)


def test_every_device_gets_its_shard_and_the_whole_rest() -> None:
    count = jax.device_count()

    def places(shard: jax.Array, state: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.lax.psum(shard, AXIS), state + jax.lax.pmean(inputs, AXIS)

    total, moved = spread(places)(shards(), replicate(np.arange(3.0)), replicate(np.ones(3)))
    assert int(total) == count * (count - 1) // 2
    np.testing.assert_array_equal(moved, [1, 2, 3])
    assert np.array_equal(shards(), np.arange(count))
