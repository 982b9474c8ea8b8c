"""The units and classes that a picture is asked for, and one picture after another."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.streaming import batches
from cnnjax.analysis.subject import Subject, check_stages, logits_of, stage_outputs


def stage_shape(subject: Subject, stage: str, image_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a stage's output for one image [*spatial, C]; nothing is computed.

    Raises:
      ValueError: for a stage that is not there.
    """
    check_stages(subject, (stage,))
    one = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return jax.eval_shape(stage_outputs, subject, one)[stage].shape[1:]


def checked_units(subject: Subject, stage: str, image_shape: Sequence[int], units: Sequence[int]) -> np.ndarray:
    """The units as int32 [units]. A unit is a channel of a stage with positions, or a value of one without.

    Raises:
      ValueError: for a stage that is not there, no unit, or one that the stage does not have.
    """
    count = stage_shape(subject, stage, image_shape)[-1]
    checked = np.asarray(units)
    if checked.ndim != 1 or not checked.size or not _within(checked, count):
        raise ValueError(f"units of {stage!r} are whole numbers from 0 to {count - 1}, one or more; given {units}")
    return checked.astype(np.int32)


def drawn_units(subject: Subject, image_shape: Sequence[int], key: jax.Array, most: int) -> dict[str, np.ndarray]:
    """Of each stage all outputs for one image [*spatial, C], or so many drawn from them: their places in order, int
    [U], in the flattened output."""
    one = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    outputs = jax.eval_shape(stage_outputs, subject, one)
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return {stage: np.sort(generator.permutation(outputs[stage].size)[:most]) for stage in subject.stages}


def chosen_units(
    outputs: Mapping[str, np.ndarray | jax.Array], places: Mapping[str, np.ndarray | jax.Array]
) -> dict[str, jax.Array]:
    """The outputs [N, ...] of each stage at the places that `drawn_units` drew, [N, U]."""
    flat = {stage: jnp.reshape(output, (len(output), -1)) for stage, output in outputs.items()}
    # Where all of them are chosen nothing has to be gathered.
    return {
        stage: values if values.shape[1] == len(places[stage]) else values[:, places[stage]]
        for stage, values in flat.items()
    }


def checked_classes(subject: Subject, images: np.ndarray, classes: np.ndarray | Sequence[int]) -> np.ndarray:
    """The class that is asked about for each image, as int32 [N].

    Raises:
      ValueError: if there is not one for each image, or one that the network does not have.
    """
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
    count = jax.eval_shape(logits_of, subject, one).shape[-1]
    checked = np.asarray(classes)
    if checked.shape != (len(images),) or not _within(checked, count):
        raise ValueError(
            f"classes are whole numbers from 0 to {count - 1}, one for each of the {len(images)} images; given "
            f"{classes}"
        )
    return checked.astype(np.int32)


def per_image(function: Callable[..., Any], arrays: Sequence[np.ndarray], batch_size: int) -> Any:
    """What a function gives for each image, batch after batch.

    Args:
      function: from batches of the arrays to a pytree of arrays [batch_size, ...]; best compiled.
      arrays: [N, ...] each.
      batch_size: images at a time; all of them where they are fewer.

    Returns:
      The pytree of NumPy arrays [N, ...].

    Raises:
      ValueError: as in `cnnjax.analysis.streaming.batches`.
    """
    size = min(batch_size, max(len(arrays[0]), 1))
    parts = [
        jax.tree.map(lambda leaf, mask=mask: np.asarray(leaf)[mask], function(*map(jnp.asarray, rows)))
        for mask, *rows in batches(arrays, size)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _within(values: np.ndarray, count: int) -> bool:
    return np.issubdtype(values.dtype, np.integer) and bool(((values >= 0) & (values < count)).all())
