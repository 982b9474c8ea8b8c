"""What is saved by frozen filters: an epoch on their features beside an epoch that learns, and ridge beside a pass.

The same network, batch and data on both sides, in turns. Prints the seconds of an epoch that learns everything and of
one that trains the head on cached features, with their ratio; the seconds of one pass of all training images through
the frozen filters; and those of ridge regressions of all strengths on the features.

    python experiments/frozen_speed.py [--rounds=7] [--widths=8,16,32]

Where other work keeps the cores busy, set OPENBLAS_NUM_THREADS=1: LAPACK's threads spin while they wait for one
another, and each then takes its core from whom it waits for.
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
from cnnjax.train.assembly import assemble
from cnnjax.train.beginning import Shared
from cnnjax.train.chunks import array_rows
from cnnjax.train.interruption import Interruption
from cnnjax.train.ridge import ridge_path
from cnnjax.train.step import variables_of
from cnnjax.train.targets import one_hot_targets

ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns of each side.", lower_bound=1)
WIDTHS = flags.DEFINE_list("widths", ["8", "16", "32"], "Filters of the first stage of the convnet.")

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


def measure(width: int) -> dict[str, float]:
    """The seconds of each side for a convnet of this width."""
    learned = Config(
        model=ModelConfig("convnet", width=width),
        data=DataConfig(name="mnist_5k"),
        optim=OptimConfig(lr=0.01, schedule="constant"),
        train=TrainConfig(epochs=1000),
    )
    frozen = override(learned, {"filters": FROZEN})
    dataset, shared = load_dataset(learned.data), Shared()
    one_pass, path = solve(frozen, dataset, shared)
    turns = {"learned": epoch(learned, dataset, shared), "frozen": epoch(frozen, dataset, shared)}
    return seconds({**turns, "pass": one_pass, "ridge": path})


def main(_: list[str]) -> None:
    """Prints a table with a row for each width."""
    print(
        f"{jax.device_count()} x {jax.devices()[0].device_kind}, JAX {jax.__version__}, {ROUNDS.value} rounds, medians:"
    )
    print(
        "\n| width | epoch that learns (ms) | epoch on frozen features (ms) | ratio "
        f"| pass over the data (ms) | ridge, {len(HeadConfig().strengths)} strengths (ms) | in passes |"
    )
    print("|---|---|---|---|---|---|---|")
    for width in map(int, WIDTHS.value):
        taken = measure(width)
        cells = [
            f"{1e3 * taken['learned']:.0f}",
            f"{1e3 * taken['frozen']:.1f}",
            f"{taken['learned'] / taken['frozen']:.1f}",
            f"{1e3 * taken['pass']:.0f}",
            f"{1e3 * taken['ridge']:.0f}",
            f"{taken['ridge'] / taken['pass']:.2f}",
        ]
        print(f"| {width} | {' | '.join(cells)} |")


if __name__ == "__main__":
    app.run(main)
