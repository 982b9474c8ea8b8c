"""Which lowering of a convolution or a max pooling is the fastest here, and is it the one that is chosen?

For every different convolution of some networks, and their max pooling: the time of one call with both its gradients,
repeated in a compiled loop as training does, in each lowering; medians over the rounds, taken in turns. The choice of
`cnnjax.ops.convolution.choose_lowering` is marked, and so is its time over the fastest one's.

    python experiments/lowerings.py [--networks=lenet5,convnet,resnet20] [--batch_size=64] [--rounds=5]
"""

import functools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax import lax

import cnnjax
from cnnjax.models.cost import inner_jaxprs
from cnnjax.ops.convolution import choose_lowering, correlate
from cnnjax.ops.correlation import Lowering
from cnnjax.ops.pooling import max_pool

NETWORKS = flags.DEFINE_list("networks", ["lenet5", "convnet", "resnet20"], "Whose layers to measure.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images in a call.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of each lowering.", lower_bound=1)
REPEATS = flags.DEFINE_integer("repeats", 5, "Calls in a turn.", lower_bound=1)

INPUTS = {"lenet5": (28, 28, 1), "convnet": (28, 28, 1), "alexnet": (224, 224, 3), "googlenet": (224, 224, 3)}
"""Others get 32 x 32 x 3."""
POOLED = [(28, 28, 16), (14, 14, 32), (32, 32, 64)]

Layer = tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]


def convolutions(name: str) -> list[Layer]:
    """The different convolutions of a network: input and kernel shape, and the options of `correlate`."""
    model = cnnjax.build(name, num_classes=10)
    x = jax.ShapeDtypeStruct((BATCH_SIZE.value, *INPUTS.get(name, (32, 32, 3))), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    layers: dict[str, Layer] = {}
    for equation in _correlations(jax.make_jaxpr(model.apply)(variables, x).jaxpr):
        shapes = [tuple(operand.aval.shape) for operand in equation.invars]
        options = {option: equation.params[option] for option in ("strides", "padding", "dilation", "groups")}
        layers[f"{shapes} {options}"] = (shapes[0], shapes[1], options)
    return list(layers.values())


def _correlations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "correlate":
            yield equation
        for inner in inner_jaxprs(equation):
            yield from _correlations(inner)


def xla_max_pool(x: jax.Array) -> jax.Array:
    """XLA's own, for windows of 2."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "valid")


def turn(function: Callable[..., jax.Array], *operands: np.ndarray) -> Callable[[], None]:
    """So many calls with their gradients in one dispatch, compiled already."""

    def step(_: int, operands: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        value, back = jax.vjp(function, *operands)
        return tuple(x - 1e-9 * gradient for x, gradient in zip(operands, back(value), strict=True))

    compiled = jax.jit(lambda operands: lax.fori_loop(0, REPEATS.value, step, operands))
    jax.block_until_ready(compiled(operands))
    return lambda: jax.block_until_ready(compiled(operands))


def milliseconds(turns: dict[str, Callable[[], None]]) -> dict[str, float]:
    """The median time of a call, the alternatives in turns."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(ROUNDS.value):
        for name, run in turns.items():
            started = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - started) / REPEATS.value)
    return {name: statistics.median(taken) for name, taken in times.items()}


def line(what: str, times: dict[str, float], chosen: str) -> str:
    """The alternatives' times, the choice in brackets."""
    shown = [f"[{name} {taken:.2f}]" if name == chosen else f"{name} {taken:.2f}" for name, taken in times.items()]
    return f"{what}: {', '.join(shown)} ms; chosen / fastest {times[chosen] / min(times.values()):.2f}"


def main(_: list[str]) -> None:
    """Prints one line for each layer."""
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, JAX {jax.__version__}, batch {BATCH_SIZE.value}")
    rng = np.random.default_rng(0)
    for name in NETWORKS.value:
        for shape, window, options in convolutions(name):
            operands = [rng.normal(size=size).astype(np.float32) for size in (shape, window)]
            turns = {
                str(lowering): turn(functools.partial(correlate, **options, lowering=lowering), *operands)
                for lowering in get_args(Lowering)
            }
            chosen = choose_lowering(window[-2], options["strides"][0], options["groups"])
            what = f"{name}: {shape} * {window}, strides {options['strides'][0]}"
            print(line(what, milliseconds(turns), chosen), flush=True)
    for pooled in POOLED:
        x = rng.normal(size=(BATCH_SIZE.value, *pooled)).astype(np.float32)
        turns = {"views": turn(functools.partial(max_pool, window=2), x), "reduce_window": turn(xla_max_pool, x)}
        print(line(f"max pooling by 2 of {x.shape}", milliseconds(turns), "views"), flush=True)


if __name__ == "__main__":
    app.run(main)
