"""Exact receptive fields, followed through a traced program from the input to its output.

Each intermediate array that still has the input's spatial dimensions carries, for each of them, the interval of input
positions that its first position depends on and how far that interval moves from one position to the next.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax.extend import core

from cnnjax.models.cost import inner_jaxprs, shape_of


@dataclasses.dataclass(frozen=True)
class Interval:
    """What position p along one dimension sees: input positions start + p * stride to that plus size - 1."""

    start: int
    size: int
    stride: int

    def union(self, other: "Interval") -> "Interval":
        """The smallest interval that holds both; strides agree wherever two arrays can be combined."""
        start = min(self.start, other.start)
        return Interval(start, max(self.start + self.size, other.start + other.size) - start, self.stride)

    def window(self, size: int, stride: int, dilation: int, before: int) -> "Interval":
        """Behind a window that slides over this grid, padded by `before`."""
        extent = dilation * (size - 1)
        return Interval(self.start - before * self.stride, self.size + extent * self.stride, self.stride * stride)


_ELEMENTWISE_NAMES = """
    abs add and clamp convert_element_type copy cos div eq erf erf_inv exp exp2 expm1 ge gt integer_pow
    is_finite le log log1p logistic lt max min mul ne neg not or pow rsqrt select_n sign sin sqrt square
    stop_gradient sub tanh xor
"""
_ELEMENTWISE = frozenset(_ELEMENTWISE_NAMES.split())

Fields = dict[int, Interval]
"""By array axis. An array that depends on the input but lost a spatial axis sees all of it: `EVERYTHING`."""
EVERYTHING: Fields = {}


def on_grid(x: jax.ShapeDtypeStruct) -> Fields:
    """Of the network's input itself, x [N, *spatial, C]: each position sees itself alone."""
    return {axis: Interval(0, 1, 1) for axis in range(1, len(x.shape) - 1)}


def fields_behind(jaxpr: core.Jaxpr, fields: Fields) -> Fields:
    """The fields of a program's first output.

    Args:
      jaxpr: a traced program.
      fields: of its last input.

    Raises:
      NotImplementedError: for a primitive that moves positions in a way not known here.
    """
    seen = {jaxpr.invars[-1]: fields}
    _follow(jaxpr, seen)
    behind = _fields(seen, jaxpr.outvars[0])
    return EVERYTHING if behind is None else behind


def receptive_field(
    function: Callable[..., Any], variables: Any, x: jax.ShapeDtypeStruct
) -> tuple[Interval, ...] | None:
    """The receptive field of the output of `function(variables, x)`, for each spatial dimension of x [N, *spatial, C].

    Returns None where the output has no spatial dimensions left, or one that mixes all positions.

    Raises:
      NotImplementedError: for a primitive that moves positions in a way not known here.
    """
    return intervals(fields_behind(jax.make_jaxpr(function)(variables, x).jaxpr, on_grid(x)))


def intervals(fields: Fields) -> tuple[Interval, ...] | None:
    """In the order of the axes; None where everything is seen."""
    return tuple(fields[axis] for axis in sorted(fields)) if fields else None


def _fields(seen: dict[core.Var, Fields], atom: Any) -> Fields | None:
    """None for what does not depend on the input."""
    return None if isinstance(atom, core.Literal) else seen.get(atom)


def _follow(jaxpr: core.Jaxpr, seen: dict[core.Var, Fields]) -> None:
    for equation in jaxpr.eqns:
        inputs = [_fields(seen, atom) for atom in equation.invars]
        if all(fields is None for fields in inputs):
            continue
        inner = list(inner_jaxprs(equation))
        if inner and equation.primitive.name not in ("scan", "while", "cond"):
            body = inner[0]
            arguments = dict(zip(body.invars, inputs[-len(body.invars) :], strict=True))
            local = {var: fields for var, fields in arguments.items() if fields is not None}
            _follow(body, local)
            outputs = [_fields(local, atom) for atom in body.outvars]
        else:
            outputs = [_apply(equation, inputs)] * len(equation.outvars)
        for var, fields in zip(equation.outvars, outputs, strict=True):
            if fields is not None:
                seen[var] = fields


def _apply(equation: core.JaxprEqn, inputs: Sequence[Fields | None]) -> Fields:
    """The fields of an equation's outputs, from those of its inputs."""
    name, params = equation.primitive.name, equation.params
    first = inputs[0] or EVERYTHING
    shape = shape_of(equation.invars[0])
    if any(fields == EVERYTHING for fields in inputs) or name in ("scan", "while"):
        return EVERYTHING  # a loop over positions, as in a recurrent network, carries each on to all that follow
    if name == "correlate":
        window = shape_of(equation.invars[1])[:-2]
        return _behind_windows(
            first, range(1, len(shape) - 1), window, params["strides"], params["dilation"], params["padding"]
        )
    if name == "conv_general_dilated":
        layout = params["dimension_numbers"]
        window = tuple(shape_of(equation.invars[1])[axis] for axis in layout.rhs_spec[2:])
        axes, strides, dilation = layout.lhs_spec[2:], params["window_strides"], params["rhs_dilation"]
        return _behind_windows(first, axes, window, strides, dilation, params["padding"])
    if name == "extend":
        return {a: f.window(1, 1, 1, params["pads"][a][0]) for a, f in first.items()}
    if name == "pad":
        return {a: f.window(1, 1, 1, int(params["padding_config"][a][0])) for a, f in first.items()}
    if name == "slice":
        starts, strides = params["start_indices"], params["strides"] or (1,) * len(shape)
        return {a: f.window(1, strides[a], 1, -starts[a]) for a, f in first.items()}
    if name == "dot_general":
        return _through_product(params["dimension_numbers"], inputs, [len(shape_of(atom)) for atom in equation.invars])
    if name in ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin"):
        kept = [axis for axis in range(len(shape)) if axis not in params["axes"]]
        return {kept.index(a): f for a, f in first.items()} if set(first) <= set(kept) else EVERYTHING
    if name == "broadcast_in_dim":
        return {params["broadcast_dimensions"][axis]: f for axis, f in first.items()}
    if name == "transpose":
        return {params["permutation"].index(axis): f for axis, f in first.items()}
    if name == "reshape":
        return _through_reshape(first, shape, shape_of(equation.outvars[0]))
    if name == "squeeze":
        gone = params["dimensions"]
        return {a - sum(g < a for g in gone): f for a, f in first.items() if a not in gone}
    if name in _ELEMENTWISE or (name == "concatenate" and params["dimension"] not in first):
        return _combined(inputs)
    if name == "stack":
        place = params["axis"]
        return {axis + (axis >= place): field for axis, field in _combined(inputs).items()}
    if name == "split" and params["axis"] not in first:
        return dict(first)
    raise NotImplementedError(f"the receptive field through {name} is not known")


def _behind_windows(fields: Fields, axes: Iterable[int], *settings: Sequence[Any]) -> Fields:
    """Behind windows of these sizes, strides, dilations and paddings."""
    return {
        axis: fields[axis].window(size, stride, dilation, pad[0])
        for axis, size, stride, dilation, pad in zip(axes, *settings, strict=True)
    }


def _combined(inputs: Sequence[Fields | None]) -> Fields:
    """Elementwise operations and concatenation along channels: each axis sees what any operand saw."""
    present = [fields for fields in inputs if fields is not None]
    result = dict(present[0])
    for fields in present[1:]:
        result = {axis: field.union(fields[axis]) for axis, field in result.items()}
    return result


def _through_product(dimension_numbers: Any, inputs: Sequence[Fields | None], ranks: Sequence[int]) -> Fields:
    """A product that contracts channels keeps the positions; one that contracts positions sees everything.

    The output has the batch axes first (some, where every position has weights of its own), then the left operand's
    free axes, then the right one's.
    """
    if None not in inputs:
        return EVERYTHING
    side = 0 if inputs[0] is not None else 1
    fields = inputs[side] or EVERYTHING
    contracted, batch = dimension_numbers[0], dimension_numbers[1]
    if set(fields) & set(contracted[side]):
        return EVERYTHING
    free = [[axis for axis in range(ranks[i]) if axis not in (*contracted[i], *batch[i])] for i in (0, 1)]
    before = len(free[0]) if side == 1 else 0
    kept = [*batch[side], *[None] * before, *free[side]]
    return {kept.index(axis): field for axis, field in fields.items()}


def _through_reshape(fields: Fields, before: Sequence[int], after: Sequence[int]) -> Fields:
    """A reshape of batch and channels keeps the spatial axes if they stay, in order and size, at the same places."""
    kept = all(len(after) > axis and after[axis] == before[axis] for axis in fields)
    return dict(fields) if kept and before[: max(fields) + 1] == after[: max(fields) + 1] else EVERYTHING
