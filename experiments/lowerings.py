"""Which lowering of a convolution or a pooling is the fastest here, and is it the one that is chosen?

For every different convolution, max pooling and average pooling of some networks, and for grouped and depthwise
convolutions: the time of one call with its gradients, repeated in a compiled loop as training does, in each lowering;
medians over the rounds, taken in turns. The choice (of `cnnjax.ops.convolution.choose_lowering`; of
`cnnjax.ops.pooling`, views) is in bold, and its time over the fastest one's in the last column. The table is Markdown.

    python experiments/lowerings.py [--networks=lenet5,convnet,resnet20,grouped] [--batch_size=64] [--rounds=5]
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from flax import linen as nn
from jax import lax

import cnnjax
from cnnjax.layers.pooling import WindowPool
from cnnjax.models.cost import inner_jaxprs
from cnnjax.ops.convolution import choose_lowering, correlate
from cnnjax.ops.correlation import Lowering
from cnnjax.ops.geometry import Windows, place_windows
from cnnjax.ops.pooling import average_pool, max_pool
from cnnjax.study.workdir import machine

INPUTS = {"lenet5": (28, 28, 1), "convnet": (28, 28, 1), "alexnet": (224, 224, 3), "googlenet": (224, 224, 3)}
"""Others get 32 x 32 x 3."""

GROUPED: tuple[tuple[tuple[int, ...], tuple[int, ...], int, int], ...] = (
    ((27, 27, 96), (5, 5, 48, 256), 1, 2),
    ((13, 13, 384), (3, 3, 192, 384), 1, 2),
    ((56, 56, 128), (3, 3, 4, 128), 1, 32),
    ((28, 28, 256), (3, 3, 8, 256), 2, 32),
    ((112, 112, 32), (3, 3, 1, 32), 1, 32),
    ((56, 56, 128), (3, 3, 1, 128), 2, 128),
    ((14, 14, 512), (3, 3, 1, 512), 1, 512),
)
"""Inputs, kernels, strides and groups: two layers each of the AlexNet of 2012 and of ResNeXt-50 (32 groups; Xie 2017),
and three depthwise ones of MobileNet (Howard 2017)."""

_MOST_SPLIT = 128  # more products than these, one for each group, take minutes to compile


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer to be measured.

    Attributes:
      what: its line's beginning.
      operands: shapes.
      forms: the alternatives, functions of the operands, by name.
      chosen: the name of the one that the project takes.
    """

    what: str
    operands: tuple[tuple[int, ...], ...]
    forms: Mapping[str, Callable[..., jax.Array]]
    chosen: str


def layers_of(name: str, batch_size: int) -> list[Layer]:
    """The different convolutions and poolings of a network; or, by the name `grouped`, those of `GROUPED`."""
    if name == "grouped":
        return [grouped((batch_size, *x), kernel, strides, groups) for x, kernel, strides, groups in GROUPED]
    model = cnnjax.build(name, num_classes=10)
    x = jax.ShapeDtypeStruct((batch_size, *INPUTS.get(name, (32, 32, 3))), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    pools: list[Layer] = []

    def note(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, WindowPool) and context.module.summary in XLA_POOLS:
            pools.append(pooling(context.module, arguments[0].shape))
        return call(*arguments, **keywords)

    with nn.intercept_methods(note):
        program = jax.make_jaxpr(model.apply)(variables, x)
    convolutions = [convolution(equation) for equation in _correlations(program.jaxpr)]
    return list({layer.what: layer for layer in (*convolutions, *pools)}.values())


def _correlations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "correlate":
            yield equation
        for inner in inner_jaxprs(equation):
            yield from _correlations(inner)


def grouped(x: tuple[int, ...], kernel: tuple[int, ...], strides: int, groups: int) -> Layer:
    """The layer of an input [N, *spatial, C] and a kernel [*window, C / groups, F], padded by half of the window."""
    dimensions = len(x) - 2
    padding = tuple((size // 2, size // 2) for size in kernel[:-2])
    options = {"strides": (strides,) * dimensions, "padding": padding, "dilation": (1,) * dimensions}
    return _alternatives(x, kernel, {**options, "groups": groups})


def convolution(equation: Any) -> Layer:
    """The layer of an equation of a traced program."""
    x, kernel = (tuple(operand.aval.shape) for operand in equation.invars)
    options = {option: equation.params[option] for option in ("strides", "padding", "dilation", "groups")}
    return _alternatives(x, kernel, options)


def _alternatives(x: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, Any]) -> Layer:
    groups = options["groups"]
    senseless = {"shifts": groups != x[-1], "patches": groups > _MOST_SPLIT, "rows": groups > _MOST_SPLIT}
    lowerings = [lowering for lowering in get_args(Lowering) if not senseless.get(lowering)]
    forms = {lowering: functools.partial(correlate, **options, lowering=lowering) for lowering in lowerings}
    chosen = choose_lowering(kernel, options["strides"][0], options["groups"])
    return Layer(f"{x} * {kernel}, {options}", (x, kernel), forms, chosen)


def pooling(layer: WindowPool, shape: tuple[int, ...]) -> Layer:
    """The layer of a module and the shape [N, *spatial, C] of its input."""
    strides = layer.window if layer.strides is None else layer.strides
    windows = place_windows(shape[1:-1], layer.window, strides=strides, padding=layer.padding)
    views = functools.partial(layer.summary, window=layer.window, strides=strides, padding=layer.padding)
    forms = {"views": views, "reduce_window": functools.partial(XLA_POOLS[layer.summary], windows=windows)}
    what = f"{layer.summary.__name__} of {shape} by {layer.window}, strides {strides}, padding {windows.padding}"
    return Layer(what, (shape,), forms, "views")


def xla_max_pool(x: jax.Array, windows: Windows) -> jax.Array:
    """XLA's own."""
    return _reduce_windows(x, -jnp.inf, lax.max, windows)


def xla_average_pool(x: jax.Array, windows: Windows) -> jax.Array:
    """The sums of XLA's own over the numbers of elements that are not padding."""
    counts = _reduce_windows(jnp.ones((1, *x.shape[1:-1], 1), x.dtype), 0.0, lax.add, windows)
    return _reduce_windows(x, 0.0, lax.add, windows) / counts


XLA_POOLS: dict[Callable[..., jax.Array], Callable[..., jax.Array]] = {
    max_pool: xla_max_pool,
    average_pool: xla_average_pool,
}


def _reduce_windows(x: jax.Array, start: float, combine: Any, windows: Windows) -> jax.Array:
    sizes, strides = (1, *windows.window, 1), (1, *windows.strides, 1)
    return lax.reduce_window(x, start, combine, sizes, strides, ((0, 0), *windows.padding, (0, 0)))


def turn(function: Callable[..., jax.Array], operands: list[np.ndarray], repeats: int) -> Callable[[], None]:
    """So many calls with their gradients in one dispatch, compiled already."""

    def step(_: int, operands: list[jax.Array]) -> list[jax.Array]:
        value, back = jax.vjp(function, *operands)
        return [x - 1e-9 * gradient for x, gradient in zip(operands, back(value), strict=True)]

    compiled = jax.jit(lambda operands: lax.fori_loop(0, repeats, step, operands))
    jax.block_until_ready(compiled(operands))
    return lambda: jax.block_until_ready(compiled(operands))


def milliseconds(layer: Layer, rounds: int, repeats: int) -> dict[str, float]:
    """The median time of a call in each form, the forms in turns."""
    rng = np.random.default_rng(0)
    operands = [rng.normal(size=shape).astype(np.float32) for shape in layer.operands]
    turns = {name: turn(form, operands, repeats) for name, form in layer.forms.items()}
    times: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, run in turns.items():
            started = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - started) / repeats)
    return {name: statistics.median(taken) for name, taken in times.items()}


def table_row(network: str, what: str, times: Mapping[str, float], chosen: str) -> str:
    """The alternatives' times, the choice in bold."""
    shown = [f"**{name} {taken:.2f}**" if name == chosen else f"{name} {taken:.2f}" for name, taken in times.items()]
    return f"| {network} | {what} | {', '.join(shown)} | {times[chosen] / min(times.values()):.2f} |"


def define_flags() -> None:
    """The flags of `main`."""
    flags.DEFINE_list("networks", ["lenet5", "convnet", "resnet20"], "Whose layers to measure.")
    flags.DEFINE_integer("batch_size", 64, "Images in a call.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Turns of each lowering.", lower_bound=1)
    flags.DEFINE_integer("repeats", 5, "Calls in a turn.", lower_bound=1)


def main(_: list[str]) -> None:
    """Prints one row for each layer."""
    asked, here = flags.FLAGS, machine()
    print(
        f"{here['date']}, {here['devices']} ({here['processor']}), JAX {jax.__version__}, batch {asked.batch_size}:\n"
    )
    print("| network | layer | ms | chosen / fastest |\n|---|---|---|---|")
    for name in asked.networks:
        for layer in layers_of(name, asked.batch_size):
            times = milliseconds(layer, asked.rounds, asked.repeats)
            print(table_row(name, layer.what, times, layer.chosen), flush=True)


if __name__ == "__main__":
    define_flags()
    app.run(main)
