"""The parts of the benchmark whose rival is PyTorch; see `benchmark.py`.

The same network, batch, optimiser and data (resident uint8 images, a new order each epoch) on both sides, in turns, so
that both meet the same machine. PyTorch runs in its own layout and channels last; the faster one counts.
"""

import dataclasses
import statistics
from collections.abc import Callable

import jax
import numpy as np
import torch
from benchmark_runner import assembled_turn, seconds, told
from torch import nn
from torch.nn import functional as F

from cnnjax.config import Config, DataConfig, ModelConfig, OptimConfig, TrainConfig
from cnnjax.data.dataset import Dataset, DataSummary, Split, load_dataset
from cnnjax.train.assembly import assemble
from cnnjax.train.beginning import Shared
from cnnjax.train.interruption import Interruption

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


def ours(model: ModelConfig, dataset: Dataset, steps: int, batch_size: int) -> Callable[[], None]:
    """A turn of the compiled loop, the steps in one dispatch as in a run."""
    config = Config(
        model=model,
        optim=OptimConfig(lr=0.01, schedule="constant"),
        train=TrainConfig(epochs=1000, batch_size=batch_size),
    )
    return assembled_turn(assemble(config, dataset, 0, Shared(), Interruption()), steps)


def theirs(
    model: nn.Module, dataset: Dataset, memory_format: torch.memory_format, steps: int, batch_size: int
) -> Callable[[], None]:
    """A turn of the loop written by hand."""
    torch.manual_seed(0)
    model = model.to(memory_format=memory_format)
    optimiser = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    images = torch.from_numpy(dataset.train.images).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    labels = torch.from_numpy(dataset.train.labels).long()
    mean, std = dataset.summary.mean[0], dataset.summary.std[0]
    order: list[torch.Tensor] = []

    def turn() -> None:
        for _ in range(steps):
            if not order:
                order.extend(torch.randperm(len(labels)).split(batch_size)[: len(labels) // batch_size])
            index = order.pop()
            loss = F.cross_entropy(model((images[index].float() - mean) / std), labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return turn


def small_networks(rounds: int, steps: int, batch_size: int) -> None:
    """Prints one line for each network: steps per second of both sides, medians, and their ratio with its range."""
    dataset = load_dataset(dataclasses.replace(DataConfig(), name="mnist_5k"))
    print(f"PyTorch {torch.__version__}")
    for name, (model, make) in NETWORKS.items():
        sides = {
            "cnnjax": ours(model, dataset, steps, batch_size),
            "contiguous": theirs(make(), dataset, torch.contiguous_format, steps, batch_size),
            "channels last": theirs(make(), dataset, torch.channels_last, steps, batch_size),
        }
        print(f"{name}, batch {batch_size}: {compared(sides, rounds, steps)}")


def compared(sides: dict[str, Callable[[], None]], rounds: int, steps: int) -> str:
    """The rates of `cnnjax` and of the fastest of the other sides, and their ratio."""
    for turn in sides.values():
        turn()
    times = [{side: seconds(turn) for side, turn in sides.items()} for _ in range(rounds)]
    rate = {side: steps / statistics.median(each[side] for each in times) for side in sides}
    rival = max((side for side in sides if side != "cnnjax"), key=rate.__getitem__)
    ratios = [each[rival] / each["cnnjax"] for each in times]
    return f"cnnjax {rate['cnnjax']:.1f} steps/s, PyTorch ({rival}) {rate[rival]:.1f} steps/s, ratio {told(ratios)}"


def resnet50(rounds: int, steps: int, batch_size: int) -> None:
    """Steps in bfloat16 at batch 256 on 224 x 224 noise, on a GPU."""
    if not torch.cuda.is_available() or jax.default_backend() != "gpu":
        print("resnet50: left out, no GPU that both JAX and PyTorch see")
        return
    steps = max(1, steps // 10)
    images, labels = torch.randint(0, 256, (512, 3, 224, 224), dtype=torch.uint8), torch.randint(0, 1000, (512,))
    sides = {
        "cnnjax": our_resnet50(images.permute(0, 2, 3, 1).numpy(), labels.numpy(), steps, 256),
        "compiled, channels last": their_resnet50(images.cuda(), labels.cuda(), steps, 256),
    }
    print(f"resnet50, bfloat16, batch 256: {compared(sides, rounds, steps)}")


def our_resnet50(images: np.ndarray, labels: np.ndarray, steps: int, batch_size: int) -> Callable[[], None]:
    """A turn of the compiled loop on these images [N, *spatial, 3]."""
    split = Split(images, labels.astype(np.int32))
    sizes = dict.fromkeys(("train", "validation", "test"), len(labels))
    summary = DataSummary("noise", images.shape[1:], 1000, (127.5,) * 3, (73.9,) * 3, 0.0, 255.0, sizes)
    config = Config(
        model=ModelConfig("resnet50"),
        data=DataConfig(name="noise"),
        optim=OptimConfig(lr=0.1, schedule="constant"),
        train=TrainConfig(epochs=1000, batch_size=batch_size, precision="bfloat16"),
    )
    return assembled_turn(assemble(config, Dataset(summary, split, split, split), 0, Shared(), Interruption()), steps)


def their_resnet50(images: torch.Tensor, labels: torch.Tensor, steps: int, batch_size: int) -> Callable[[], None]:
    """A turn of the loop written by hand, compiled, on these images [N, 3, *spatial], in bfloat16 by autocast."""
    import torchvision

    model = torchvision.models.resnet50().to(images.device, memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    images = images.contiguous(memory_format=torch.channels_last)

    @torch.compile
    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return F.cross_entropy(model((x.float() - 127.5) / 73.9), y)

    def turn() -> None:
        for _ in range(steps):
            index = torch.randint(len(labels), (batch_size,), device=labels.device)
            optimiser.zero_grad()
            step(images[index], labels[index]).backward()
            optimiser.step()
        if images.is_cuda:
            torch.cuda.synchronize()

    return turn
