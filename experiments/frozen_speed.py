"""What is saved by frozen filters: an epoch on their features beside an epoch that learns, and ridge beside a pass.

The same network, batch and data on both sides, in turns. Prints the seconds of an epoch that learns everything and of
one that trains the head on cached features, with their ratio; the seconds of one pass of all training images through
the frozen filters; and those of ridge regressions of all strengths on the features.

    python experiments/frozen_speed.py [--rounds=7] [--width=16]
"""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from absl import app, flags

from cnnjax.config import Config, DataConfig, HeadConfig, ModelConfig, OptimConfig, TrainConfig, override
from cnnjax.data.dataset import Dataset, load_dataset
from cnnjax.filters.features import feature_function
from cnnjax.train.assembly import Shared, assemble
from cnnjax.train.interruption import Interruption
from cnnjax.train.ridge import array_rows, one_hot_targets, ridge_path
from cnnjax.train.step import variables_of

ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns of each side.", lower_bound=1)
WIDTH = flags.DEFINE_integer("width", 16, "Filters of the first stage of the convnet.", lower_bound=1)

FROZEN = "stage.*=gaussian,frozen;head/.*=init,trained"


def epoch(config: Config, dataset: Dataset, shared: Shared) -> Callable[[], None]:
    """A turn: one epoch in one dispatch, as in a run."""
    run = assemble(config, dataset, 0, shared, Interruption())
    state = [run.state]

    def turn() -> None:
        state[0] = run.program.train(state[0], run.inputs, [run.members[0].steps_per_epoch])
        jax.block_until_ready(state[0].step)

    return turn


def solve(config: Config, dataset: Dataset, shared: Shared) -> tuple[Callable[[], None], Callable[[], None]]:
    """Two turns: all training images through the filters, and ridge of every strength on the features."""
    run = assemble(config, dataset, 0, shared, Interruption())
    summary, images = dataset.summary, jnp.asarray(dataset.train.images)
    blueprint = run.members[0].blueprint
    function = feature_function(blueprint.model, str(blueprint.parts.prefix), summary.mean, summary.std)
    variables = variables_of({**run.inputs.frozen[0], **run.state.trained}, run.inputs.frozen[1])
    features = function(variables, images).reshape(len(images), -1)
    targets = one_hot_targets(dataset.train.labels, summary.num_classes)

    def one_pass() -> None:
        jax.block_until_ready(function(variables, images))

    def path() -> None:
        strengths = HeadConfig().strengths
        found = ridge_path(array_rows(features), len(features), targets, strengths, 2048, relative=True)
        jax.block_until_ready(found.kernels)

    return one_pass, path


def seconds(turns: dict[str, Callable[[], None]]) -> dict[str, float]:
    """The median time of each, in turns, after one that compiles."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(ROUNDS.value + 1):
        for name, run in turns.items():
            started = time.perf_counter()
            run()
            if number:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken) for name, taken in times.items()}


def main(_: list[str]) -> None:
    """Prints the seconds of each and the two ratios."""
    learned = Config(
        model=ModelConfig("convnet", width=WIDTH.value),
        data=DataConfig(name="mnist_5k"),
        optim=OptimConfig(lr=0.01, schedule="constant"),
        train=TrainConfig(epochs=1000),
    )
    frozen = override(learned, {"filters": FROZEN})
    dataset, shared = load_dataset(learned.data), Shared()
    one_pass, path = solve(frozen, dataset, shared)
    turns = {"learned": epoch(learned, dataset, shared), "frozen": epoch(frozen, dataset, shared)}
    taken = seconds({**turns, "pass": one_pass, "ridge": path})
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, JAX {jax.__version__}, width {WIDTH.value}")
    print(", ".join(f"{name} {1e3 * value:.1f} ms" for name, value in taken.items()))
    print(f"an epoch that learns / an epoch on frozen features: {taken['learned'] / taken['frozen']:.1f}")
    print(
        f"ridge of {len(HeadConfig().strengths)} strengths / a pass over the data: {taken['ridge'] / taken['pass']:.2f}"
    )


if __name__ == "__main__":
    app.run(main)
