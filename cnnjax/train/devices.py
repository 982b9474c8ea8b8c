"""The one axis of devices: all of `jax.pmap` is here."""

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnnjax.config import RequestError
from cnnjax.train.processes import several

AXIS = "devices"


def spread(
    function: Callable[[jax.Array, Any, Any], Any], input_axes: Any = None
) -> Callable[[jax.Array, Any, Any], Any]:
    """`function(shard, state, inputs)` run on all devices at once, compiled.

    Every device gets the same state, whole, the inputs (those parts whole whose axis is None; of those whose axis is 0,
    [devices, ...], its own), and the number of its own shard (int32); the function works on
    that shard's part of the batch and must bring its results to agreement over `AXIS` (`pmean`, `psum`) before it
    returns them. Nothing checks that it does, but a test on eight devices. The result may take over the state's memory:
    the state that was given is gone.
    """
    return jax.pmap(
        function, AXIS, in_axes=(0, None, input_axes), out_axes=None, devices=_devices(), donate_argnums=(1,)
    )


def spread_members(function: Callable[[Any, Any], Any], input_axes: Any) -> Callable[[Any, Any], Any]:
    """`function(state, inputs)` of several runs, each device with its own of them, compiled.

    What differs from run to run has two leading axes, [devices, runs of a device, ...]; the function gets its device's
    part, [runs, ...], and so does the state that it returns. The state that was given is gone.

    Args:
      input_axes: 0 for the parts of `inputs` that differ, None for those that all runs share; a tree's prefix.
    """
    return jax.pmap(function, in_axes=(0, input_axes), out_axes=0, donate_argnums=(0,))


def axis_size(axis: str | None) -> int:
    """How many devices an axis has, within what is spread over it; 1 without one."""
    return 1 if axis is None else lax.axis_size(axis)


def mean_over(axis: str | None, tree: Any) -> Any:
    """The mean over an axis of devices; the tree itself without one."""
    return tree if axis is None else lax.pmean(tree, axis)


def sum_over(axis: str | None, tree: Any) -> Any:
    """The sum over an axis of devices; the tree itself without one."""
    return tree if axis is None else lax.psum(tree, axis)


def shards() -> jax.Array:
    """The number of each device's shard [devices], the first argument of what `spread` returns."""
    own = [number for number, device in enumerate(_devices()) if device.process_index == jax.process_index()]
    return distribute(np.asarray(own, np.int32))


def by_device() -> NamedSharding:
    """A part of the leading axis on each device."""
    return NamedSharding(_mesh(), PartitionSpec(AXIS))


def by_own_device() -> NamedSharding:
    """A part of the leading axis on each device of this process."""
    return NamedSharding(Mesh(np.asarray(jax.local_devices()), (AXIS,)), PartitionSpec(AXIS))


def replicate(tree: Any) -> Any:
    """Every array whole on every device; all processes must give the same."""
    sharding = NamedSharding(_mesh(), PartitionSpec())
    if not several():
        return jax.device_put(tree, sharding)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_callback(np.shape(leaf), sharding, lambda index: leaf[index]), tree
    )


def distribute(tree: Any) -> Any:
    """Every array [devices of this process, ...] with each device's part on it."""
    if not several():
        return jax.device_put(tree, by_device())
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(by_device(), np.asarray(leaf)), tree)


def _mesh() -> Mesh:
    return Mesh(np.asarray(_devices()), (AXIS,))


def _devices() -> list[jax.Device]:
    """Of all processes, those of each side by side: its part of a batch is in one piece."""
    return sorted(jax.devices(), key=lambda device: device.process_index)


def check_divides(field: str, batch_size: int, parts: int = 1) -> None:
    """Raises `RequestError`, naming sizes that would do, unless the devices, and on each the parts that a batch is
    computed in, divide the batch."""
    count = jax.device_count() * parts
    if batch_size % count:
        below = batch_size - batch_size % count
        would_do = f"{below} or {below + count}" if below else str(count)
        what = f"{count // parts} devices" + (f" of {parts} parts" if parts > 1 else "")
        raise RequestError(f"{field}: {what} do not divide a batch of {batch_size}; {would_do} would do")


def device_memory() -> float:
    """Bytes of the smallest device; of a CPU its part of the machine's memory."""
    limits = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in jax.local_devices()]
    if min(limits):
        return float(min(limits))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / jax.local_device_count()
