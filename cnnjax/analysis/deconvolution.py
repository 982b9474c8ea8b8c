"""What in an image a unit answers to: its activation sent back to the input, layer by layer.

Linear layers go back by their transpose, max pooling by its switches (to the places of the greatest values), which is
what their derivatives do; the ways differ in what becomes of the signal at a ReLU.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.rewriting import rewritten
from cnnjax.analysis.subject import Subject
from cnnjax.analysis.units import checked_units, per_image
from cnnjax.data.feed import standardise
from cnnjax.layers.activations import ACTIVATIONS, Activation
from cnnjax.models.network import run_stages

_relu = ACTIVATIONS["relu"]


@jax.custom_vjp
def deconvnet_relu(x: jax.Array) -> jax.Array:
    """max(x, 0), whose signal g goes back as max(g, 0), whatever x was (Zeiler and Fergus 2014)."""
    return _relu(x)


deconvnet_relu.defvjp(lambda x: (_relu(x), None), lambda _, signal: (_relu(signal),))


@jax.custom_vjp
def guided_relu(x: jax.Array) -> jax.Array:
    """max(x, 0), whose signal g goes back as max(g, 0) where x > 0, and as 0 elsewhere (Springenberg 2015)."""
    return _relu(x)


guided_relu.defvjp(lambda x: (_relu(x), x > 0), lambda on, signal: (jnp.where(on, _relu(signal), 0),))

RECTIFIERS: dict[str, Activation] = {"deconvnet": deconvnet_relu, "guided": guided_relu}


def deconvolution(
    subject: Subject,
    images: np.ndarray,
    stage: str,
    units: Sequence[int],
    *,
    form: str = "deconvnet",
    batch_size: int = 64,
) -> np.ndarray:
    """The activation of each unit, where the image drives it most, projected back to the input.

    All other activations of the stage are set to 0, and what is left goes back through the network: with
    `form="deconvnet"` as in Zeiler and Fergus 2014 (section 2.1), where a ReLU passes on what is positive of the
    signal; with `form="guided"` as in Springenberg and others 2015, where it also stops what its own input was not
    positive for. Biases are left out by both. Detectors other than ReLU, and norms, go back by their derivative, and of
    equal greatest values in a pooling window each takes its share.

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units.
      stage: a stage of the network, not `input`.
      units: channels of the stage, or values of one without positions, such as classes of the head.
      form: a key of `RECTIFIERS`.
      batch_size: images at a time.

    Returns:
      float32 [N, units, *spatial, C], of either sign, in the standardised input's scale: 0 where nothing came back.

    Raises:
      ValueError: for a stage, unit or form that is not there, or no image.
    """
    if form not in RECTIFIERS:
        raise ValueError(f"no form {form!r}; there are: {', '.join(RECTIFIERS)}")
    if stage not in subject.model.stage_names:
        raise ValueError(f"no stage {stage!r}; there are: {', '.join(subject.model.stage_names)}")
    checked = jnp.asarray(checked_units(subject, stage, images.shape[1:], units))
    function = functools.partial(_projected, subject, checked, stage=stage, form=form)
    return per_image(function, [images], batch_size)


@functools.partial(jax.jit, static_argnames=("stage", "form"))
def _projected(subject: Subject, units: jax.Array, images: jax.Array, *, stage: str, form: str) -> jax.Array:
    model = rewritten(subject.model, lambda part: RECTIFIERS[form] if part is _relu else part)
    with jax.default_matmul_precision("highest"):
        inputs = standardise(images, subject.mean, subject.std)
        outputs, back = jax.vjp(lambda x: run_stages(model, subject.variables, x, until=stage), inputs)
        return jnp.moveaxis(jax.lax.map(lambda unit: back(_strongest_alone(outputs, unit))[0], units), 0, 1)


def _strongest_alone(outputs: jax.Array, unit: jax.Array) -> jax.Array:
    """The outputs [N, *grid, C], with all but each example's greatest one of that unit set to 0."""
    flat = outputs.reshape(len(outputs), -1, outputs.shape[-1])
    own = flat[..., unit]
    greatest = jnp.where(jnp.arange(flat.shape[1]) == own.argmax(axis=-1, keepdims=True), own, 0)
    return jnp.where(jnp.arange(flat.shape[-1]) == unit, greatest[..., None], 0).reshape(outputs.shape)
