"""The image that a unit likes best, found by climbing its gradient (Erhan 2009; Simonyan 2014)."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.analysis.units import checked_units
from cnnjax.data.feed import standardise
from cnnjax.ops.transformations.neighbourhood import blur as gaussian_blur

STARTS = ("noise", "grey")


def activation_maximisation(
    subject: Subject,
    image_shape: Sequence[int],
    units: Sequence[tuple[str, int]],
    key: jax.Array,
    *,
    start: str = "noise",
    steps: int = 128,
    rate: float = 0.05,
    penalty: float = 1e-3,
    blur: float = 0.0,
    jitter: int = 0,
) -> np.ndarray:
    """argmax over legal x of phi(x)[unit] - penalty |z|^2, by gradient ascent, for all units at once.

    z is the standardised x, so the penalty draws towards the data's mean (Simonyan, Vedaldi and Zisserman 2014,
    equation 1; Erhan and others 2009 bound the norm instead). Of a stage with positions the unit is a channel, and
    phi its mean over them. Each step goes along the gradient over its root mean square, so that it is as long for every
    unit: by `rate` of the legal range at first, and linearly less until none at the end. Then pixels are made legal. An
    image at which the gradient is 0, as where ReLUs are off, stays as it is.

    Args:
      subject: the network.
      image_shape: [*spatial, C].
      units: for each the stage, the last one for a class's logit, and its channel there, or its place among the values
        of a stage without positions. All are one compilation.
      key: of the noise and the jitter.
      start: `grey`, the data's mean; or `noise`, normal noise of the data's mean and standard deviation.
      steps: how many.
      rate: of the first step, over the legal range.
      penalty: of the squared norm.
      blur: standard deviation, in pixels, of a Gaussian that the images are blurred by after each step (Yosinski 2015).
      jitter: the most pixels by which each step shifts the images, as a torus, before the gradient is taken
        (Mordvintsev 2015).

    Returns:
      float32 [units, *spatial, C] of legal pixels, in the images' own units.

    Raises:
      ValueError: for no unit, a stage, unit or start that is not there, fewer steps than 1, or a negative setting.
    """
    if start not in STARTS:
        raise ValueError(f"no start {start!r}; there are: {', '.join(STARTS)}")
    if not units:
        raise ValueError("no unit is asked for; one is a stage and a channel of it, such as ('head', 0)")
    if steps < 1 or min(rate, penalty, blur, jitter) < 0:
        raise ValueError(
            "steps must be at least 1, and rate, penalty, blur and jitter at least 0; given "
            f"{steps}, {rate}, {penalty}, {blur} and {jitter}"
        )
    stages = tuple(dict.fromkeys(stage for stage, _ in units))
    for stage in stages:
        checked_units(subject, stage, image_shape, [unit for own, unit in units if own == stage])
    places = np.array([(stages.index(stage), unit) for stage, unit in units], np.int32)
    noise_key, jitter_key = jax.random.split(key)
    mean, std = (np.asarray(values, np.float32) for values in (subject.mean, subject.std))
    first = jnp.broadcast_to(mean, (len(units), *image_shape))
    if start == "noise":
        first = first + std * jax.random.normal(noise_key, first.shape)
    settings = (jnp.asarray(places), jitter_key, steps, rate, penalty)
    return np.asarray(_climb(subject, first, *settings, stages=stages, blur=float(blur), jitter=jitter))


@functools.partial(jax.jit, static_argnames=("stages", "blur", "jitter"))
def _climb(
    subject: Subject,
    start: jax.Array,
    places: jax.Array,
    key: jax.Array,
    steps: jax.Array,
    rate: jax.Array,
    penalty: jax.Array,
    *,
    stages: tuple[str, ...],
    blur: float,
    jitter: int,
) -> jax.Array:
    spatial = tuple(range(1, start.ndim - 1))

    def objective(images: jax.Array) -> jax.Array:
        outputs = stage_outputs(subject, images)
        own = jnp.zeros(len(images))
        for number, stage in enumerate(stages):
            means = outputs[stage].reshape(len(images), -1, outputs[stage].shape[-1]).mean(axis=1)
            chosen = means[jnp.arange(len(images)), jnp.minimum(places[:, 1], means.shape[1] - 1)]
            own = jnp.where(places[:, 0] == number, chosen, own)
        return own.sum() - penalty * jnp.square(standardise(images, subject.mean, subject.std)).sum()

    def step(number: jax.Array, images: jax.Array) -> jax.Array:
        shifts = jax.random.randint(jax.random.fold_in(key, number), (len(spatial),), -jitter, jitter + 1)
        gradients = jax.grad(lambda x: objective(jnp.roll(x, tuple(shifts), spatial) if jitter else x))(images)
        length = rate * (subject.high - subject.low) * (1 - number / steps)
        images = images + length * _of_unit_size(gradients)
        if blur:
            images = gaussian_blur(images, blur, radius=math.ceil(3 * blur))
        return jnp.clip(images, subject.low, subject.high)

    return jax.lax.fori_loop(0, steps, step, jnp.clip(start, subject.low, subject.high))


def _of_unit_size(gradients: jax.Array) -> jax.Array:
    """Each example's gradient over its root mean square; 0 stays 0."""
    axes = tuple(range(1, gradients.ndim))
    smallest = jnp.finfo(gradients.dtype).tiny
    # Over the greatest at first: squares of small gradients would vanish.
    gradients = gradients / jnp.maximum(jnp.abs(gradients).max(axes, keepdims=True), smallest)
    return gradients / jnp.maximum(jnp.sqrt(jnp.square(gradients).mean(axes, keepdims=True)), smallest)
