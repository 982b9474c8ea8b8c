"""Where in an image a class is seen: maps on the grid of a stage, of how much each position speaks for the class."""

import functools
from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamShapeError

from cnnjax.analysis.rewriting import rewritten
from cnnjax.analysis.subject import Subject, check_stages, stage_outputs
from cnnjax.analysis.units import checked_classes, per_image, stage_shape
from cnnjax.data.feed import standardise
from cnnjax.layers.pooling import NoPool
from cnnjax.layers.region_pooling import GlobalPool
from cnnjax.models.network import Network, run_stages
from cnnjax.ops.pooling import global_average_pool

_TOLERANCE = 1e-3


def class_activation_map(
    subject: Subject, images: np.ndarray, classes: np.ndarray | Sequence[int], *, batch_size: int = 256
) -> np.ndarray:
    """M[p] = sum over k of w[k, class] f[p, k] + b[class] (Zhou and others 2016, equation 2).

    For networks whose head is the mean over positions of the features f and a dense layer w, b: the head on each
    position alone. Unlike in the paper the bias is in it, so that the mean over positions is the class's logit.

    Args:
      subject, images, classes, batch_size: as in `cnnjax.analysis.saliency.saliency`.

    Returns:
      float32 [N, *grid] in logits, on the grid that the head takes the mean over.

    Raises:
      ValueError: for no image, classes that the network does not have, or a network that does not end so; `grad_cam`
        takes any.
    """
    checked = checked_classes(subject, images, classes)
    wrong = ValueError(
        "the network does not end in the mean over positions and a dense layer, as a class activation map needs; "
        "grad_cam takes any stage with positions"
    )
    try:
        maps, logits = per_image(functools.partial(_positions_alone, subject), [images, checked], batch_size)
    except ScopeParamShapeError:
        raise wrong from None
    means = maps.mean(axis=tuple(range(1, maps.ndim)))
    if maps.ndim == 1 or (np.abs(means - logits) > _TOLERANCE * (1 + np.abs(logits))).any():
        raise wrong
    return maps


def grad_cam(
    subject: Subject,
    images: np.ndarray,
    classes: np.ndarray | Sequence[int],
    stage: str,
    *,
    rectify: bool = True,
    batch_size: int = 256,
) -> np.ndarray:
    """L[p] = max(0, sum over k of a[k] f[p, k]), a[k] the mean over p of d logit / d f[p, k] (Selvaraju 2017).

    Where the class activation map is defined too, and f is what the head takes the mean of, it is the same before the
    maximum, over the number of positions and without the bias.

    Args:
      subject, images, classes, batch_size: as in `cnnjax.analysis.saliency.saliency`.
      stage: whose output f is; with positions.
      rectify: whether to take the maximum with 0, which leaves what speaks for the class.

    Returns:
      float32 [N, *grid] in logits, on the stage's grid.

    Raises:
      ValueError: for no image, classes that the network does not have, a stage that is not there or has no positions.
    """
    check_stages(subject, (stage,))
    checked = checked_classes(subject, images, classes)
    if len(stage_shape(subject, stage, images.shape[1:])) < 2:
        raise ValueError(f"stage {stage!r} has no positions left to be mapped")
    maps = per_image(functools.partial(_weighted, subject, stage=stage), [images, checked], batch_size)
    return np.maximum(maps, 0) if rectify else maps


@jax.jit
def _positions_alone(subject: Subject, images: jax.Array, classes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The head on each position's features alone [N, *grid], and on all of them [N]; without a grid both are one."""
    model, names = subject.model, subject.model.stage_names
    before = names[-2] if len(names) > 1 else None
    with jax.default_matmul_precision("highest"):
        inputs = standardise(images, subject.mean, subject.std)
        features = run_stages(_unpooled(model), subject.variables, inputs, until=before) if before else inputs
        alone = features.reshape(-1, *(1,) * (features.ndim - 2), features.shape[-1])
        maps = run_stages(model, subject.variables, alone, after=before).reshape(*features.shape[:-1], -1)
        logits = run_stages(model, subject.variables, inputs)
    own = classes.reshape(-1, *(1,) * (maps.ndim - 1))
    return jnp.take_along_axis(maps, own, axis=-1)[..., 0], jnp.take_along_axis(logits, classes[:, None], axis=-1)[:, 0]


def _unpooled(model: Network) -> Network:
    """The network with the positions that global average pooling would take the mean of."""

    def change(part: object) -> object:
        return NoPool() if isinstance(part, GlobalPool) and part.summary is global_average_pool else part

    return cast(Network, rewritten(model, change))


@functools.partial(jax.jit, static_argnames="stage")
def _weighted(subject: Subject, images: jax.Array, classes: jax.Array, *, stage: str) -> jax.Array:
    features = stage_outputs(subject, images)[stage]

    def chosen(features: jax.Array) -> jax.Array:
        after = stage if stage in subject.model.stage_names else None
        logits = run_stages(subject.model, subject.variables, features, after=after)
        return jnp.take_along_axis(logits, classes[:, None], axis=-1).sum()

    with jax.default_matmul_precision("highest"):
        gradients = jax.grad(chosen)(features)
    weights = gradients.mean(axis=tuple(range(1, features.ndim - 1)), keepdims=True)
    return (weights * features).sum(axis=-1)
