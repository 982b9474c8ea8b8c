"""What lies beyond the edge of the grid: zeros or another constant, its mirror image, or its other side."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Border = Literal["zeros", "reflect", "circular"]
BORDERS: dict[str, str] = {"zeros": "constant", "reflect": "reflect", "circular": "wrap"}


def extend(x: jax.Array, pads: Sequence[tuple[int, int]], border: Border, fill: float = 0.0) -> jax.Array:
    """x [N, *spatial, C] with elements added before and after along each spatial dimension.

    Args:
      x: the input.
      pads: how many, before and after, for each spatial dimension.
      border: `zeros`; `reflect`, the elements inside in reverse order, the outermost not repeated; or `circular`, as if
        the grid were a ring or torus.
      fill: a constant in the place of the zeros of that border.

    Raises:
      ValueError: for another border, a constant for one that has none, or a reflection of more elements than there are
        inside the outermost.
    """
    _require_border(border, pads, x.shape[1:-1])
    if fill and border != "zeros":
        raise ValueError(f"border {border!r} has no constant; given fill {fill}")
    if not any(map(any, pads)):
        return x
    if fill:
        return jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    return extend_p.bind(x, pads=((0, 0), *map(tuple, pads), (0, 0)), mode=BORDERS[border])


def extended_sites(spatial: Sequence[int], pads: Sequence[tuple[int, int]], border: Border) -> np.ndarray:
    """Which element of a grid stands at each place of the extended one: its number on the flattened grid, or -1 for a
    constant. Integers [*extended sizes]. Arguments and errors as in `extend`.
    """
    _require_border(border, pads, spatial)
    numbers = np.arange(np.prod(spatial)).reshape(spatial)
    constant = {"constant_values": -1} if border == "zeros" else {}
    return np.pad(numbers, pads, mode=BORDERS[border], **constant)  # type: ignore[call-overload, no-any-return]


def _require_border(border: Border, pads: Sequence[tuple[int, int]], spatial: Sequence[int]) -> None:
    if border not in BORDERS:
        raise ValueError(f"unknown border {border!r}; there are: {', '.join(BORDERS)}")
    if border == "reflect" and any(max(pair) >= size for pair, size in zip(pads, spatial, strict=True)):
        raise ValueError(f"a grid of {tuple(spatial)} has not enough elements to reflect {tuple(pads)}")


def _extend(x: jax.Array, *, pads: tuple[tuple[int, int], ...], mode: Any) -> jax.Array:
    return jnp.pad(x, pads, mode=mode)


def _transpose(gradient: jax.Array, x: ad.UndefinedPrimal, **parameters: Any) -> list[jax.Array]:
    return list(jax.linear_transpose(lambda x: _extend(x, **parameters), x.aval)(gradient))


def _batch(
    operands: tuple[jax.Array], axes: tuple[int], *, pads: tuple[tuple[int, int], ...], mode: str
) -> tuple[jax.Array, int]:
    return extend_p.bind(jnp.moveaxis(operands[0], axes[0], 0), pads=((0, 0), *pads), mode=mode), 0


def _shape(x: jax.Array, *, pads: tuple[tuple[int, int], ...], mode: str) -> jax.core.ShapedArray:
    del mode
    return jax.core.ShapedArray(tuple(n + sum(pair) for n, pair in zip(x.shape, pads, strict=True)), x.dtype)


# A primitive, so that whoever follows receptive fields through a traced program sees what was added where.
extend_p = Primitive("extend")
extend_p.def_impl(jax.jit(_extend, static_argnames=("pads", "mode")))
extend_p.def_abstract_eval(_shape)
mlir.register_lowering(extend_p, mlir.lower_fun(_extend, multiple_results=False))
ad.deflinear2(extend_p, _transpose)
batching.primitive_batchers[extend_p] = _batch
