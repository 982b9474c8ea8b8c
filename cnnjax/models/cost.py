"""Counting multiply-adds from a traced program."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def multiply_adds(function: Callable[..., Any], *arguments: Any) -> int:
    """The multiply-adds of the convolutions and matrix products in `function(*arguments)`.

    A convolution counts every element of the kernel at every output, also where it meets padding, as is usual.

    Args:
      function: any traceable function.
      *arguments: arrays, or `jax.ShapeDtypeStruct`s: nothing is computed.
    """
    return count_multiply_adds(jax.make_jaxpr(function)(*arguments).jaxpr)


def inner_jaxprs(equation: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """The programs that an equation calls."""
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def shape_of(atom: Any) -> tuple[int, ...]:
    """The shape of a variable or literal of a traced program."""
    return tuple(atom.aval.shape)


def count_multiply_adds(jaxpr: core.Jaxpr) -> int:
    """Of a program that is traced already; see `multiply_adds`."""
    total = 0
    for equation in jaxpr.eqns:
        output = shape_of(equation.outvars[0])
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = shape_of(equation.invars[0])
            total += math.prod(output) * math.prod(left[axis] for axis in contracted)
        elif equation.primitive.name in ("correlate", "conv_general_dilated"):
            kernel = shape_of(equation.invars[1])
            layout = equation.params.get("dimension_numbers")
            features = kernel[layout.rhs_spec[0]] if layout else kernel[-1]
            total += math.prod(output) * math.prod(kernel) // features
        else:
            times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
            total += times * sum(map(count_multiply_adds, inner_jaxprs(equation)))
    return total


def intermediate_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """The bytes of all that `function(*arguments)` computes on its way, were nothing of it fused or thrown away."""
    return _output_bytes(jax.make_jaxpr(function)(*arguments).jaxpr)


def _output_bytes(jaxpr: core.Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        inner = list(inner_jaxprs(equation))
        outputs = [variable.aval for variable in equation.outvars]
        total += sum(map(_output_bytes, inner)) or sum(math.prod(a.shape) * a.dtype.itemsize for a in outputs)  # type: ignore[attr-defined]
    return total
