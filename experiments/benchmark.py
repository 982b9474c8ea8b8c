"""How fast is the training loop, beside the same loop written by hand in PyTorch?

The same network, batch, optimiser and data (resident uint8 images, a new order each epoch) on both sides, in turns, so
that both meet the same machine. PyTorch runs in its own layout and channels last; the faster one counts. Prints steps
per second of both sides, medians over the rounds, and their ratio with its range.

    pip install torch && python experiments/benchmark.py [--rounds=9] [--steps=100] [--batch_size=64]
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import torch
from absl import app, flags
from torch import nn
from torch.nn import functional as F

from cnnjax.config import Config, DataConfig, ModelConfig, OptimConfig, TrainConfig
from cnnjax.data.dataset import Dataset, load_dataset
from cnnjax.train.assembly import assemble
from cnnjax.train.beginning import Shared
from cnnjax.train.interruption import Interruption

ROUNDS = flags.DEFINE_integer("rounds", 9, "Turns of each side.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 100, "Training steps in a turn.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images in a step.", lower_bound=1)

NETWORKS: dict[str, tuple[ModelConfig, Callable[[], nn.Module]]] = {
    "lenet5": (
        ModelConfig("lenet5"),
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        ),
    ),
    "convnet, width 8": (ModelConfig("convnet", width=8), lambda: torch_convnet(8)),
    "convnet, width 32": (ModelConfig("convnet", width=32), lambda: torch_convnet(32)),
}


def torch_convnet(width: int) -> nn.Module:
    """The default `convnet` on 28 x 28 x 1."""
    return nn.Sequential(
        *(nn.Conv2d(1, width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(49 * 2 * width, 10)),
    )


def ours(model: ModelConfig, dataset: Dataset) -> Callable[[], None]:
    """A turn of the compiled loop, the steps in one dispatch as in a run."""
    config = Config(
        model=model,
        optim=OptimConfig(lr=0.01, schedule="constant"),
        train=TrainConfig(epochs=1000, batch_size=BATCH_SIZE.value),
    )
    run = assemble(config, dataset, 0, Shared(), Interruption())
    state: list[Any] = [run.state]

    def turn() -> None:
        state[0] = run.program.train(state[0], run.inputs, [STEPS.value])
        jax.block_until_ready(state[0])

    return turn


def theirs(model: nn.Module, dataset: Dataset, memory_format: torch.memory_format) -> Callable[[], None]:
    """A turn of the loop written by hand."""
    torch.manual_seed(0)
    model = model.to(memory_format=memory_format)
    optimiser = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    images = torch.from_numpy(dataset.train.images).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    labels = torch.from_numpy(dataset.train.labels).long()
    mean, std = dataset.summary.mean[0], dataset.summary.std[0]
    order: list[torch.Tensor] = []

    def turn() -> None:
        for _ in range(STEPS.value):
            if not order:
                order.extend(torch.randperm(len(labels)).split(BATCH_SIZE.value)[: len(labels) // BATCH_SIZE.value])
            index = order.pop()
            loss = F.cross_entropy(model((images[index].float() - mean) / std), labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return turn


def seconds(turn: Callable[[], None]) -> float:
    """How long a turn takes."""
    started = time.perf_counter()
    turn()
    return time.perf_counter() - started


def main(_: list[str]) -> None:
    """Prints one line for each network."""
    dataset = load_dataset(dataclasses.replace(DataConfig(), name="mnist_5k"))
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, JAX {jax.__version__}, PyTorch {torch.__version__}")
    for name, (model, make) in NETWORKS.items():
        sides = {
            "cnnjax": ours(model, dataset),
            "contiguous": theirs(make(), dataset, torch.contiguous_format),
            "channels last": theirs(make(), dataset, torch.channels_last),
        }
        for turn in sides.values():
            turn()
        rounds = [{side: seconds(turn) for side, turn in sides.items()} for _ in range(ROUNDS.value)]
        rate = {side: STEPS.value / statistics.median(times[side] for times in rounds) for side in sides}
        rival = max(("contiguous", "channels last"), key=rate.__getitem__)
        ratios = sorted(times[rival] / times["cnnjax"] for times in rounds)
        print(
            f"{name}, batch {BATCH_SIZE.value}: cnnjax {rate['cnnjax']:.0f} steps/s, PyTorch ({rival}) "
            f"{rate[rival]:.0f} steps/s, ratio {statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"
        )


if __name__ == "__main__":
    app.run(main)
