"""How fast is cnnjax? Each figure is a ratio to a named rival, measured in the same run.

- `pytorch`: training steps a second beside a loop written by hand in PyTorch (`pip install torch`);
- `population`: 16 runs of lenet5 trained together, beside the same 16 one after another;
- `overhead`: a whole run (files, checkpoints, evaluations, progress) beside a bare loop over the same compiled steps;
- `start`: seconds from the command to the first training step of lenet5, in its second call, beside 6 seconds;
- `memory`: bytes of a device that 4 runs together take, beside the line through those of 8 and 16; the steps are an
  argument of the program, which takes the same memory for any number of them;
- `resnet50`: on a GPU, steps in bfloat16 at batch 256 beside PyTorch's, compiled and channels last (`pip install torch
  torchvision`).

    python experiments/benchmark.py [--parts=population,overhead,start,memory] [--rounds=9] [--steps=100]
"""

import importlib
from collections.abc import Callable

import jax
from absl import app, flags, logging

from cnnjax.config import RequestError, choose

PARTS = {
    "pytorch": "benchmark_pytorch:small_networks",
    "population": "benchmark_runner:population",
    "overhead": "benchmark_runner:overhead",
    "start": "benchmark_runner:start",
    "memory": "benchmark_runner:memory",
    "resnet50": "benchmark_pytorch:resnet50",
}
WANTED = flags.DEFINE_list("parts", list(PARTS), "Which, in this order.")
ROUNDS = flags.DEFINE_integer("rounds", 9, "Turns of each side.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 100, "Training steps in a turn.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images in a step of a small network.", lower_bound=1)


def part(name: str) -> Callable[[int, int, int], None]:
    """What measures and prints a part, given rounds, steps and the batch size; PyTorch is loaded for its own alone."""
    module, _, function = choose(PARTS, name, "part").partition(":")
    return getattr(importlib.import_module(module), function)


def main(_: list[str]) -> None:
    """Prints the machine, and a line or more for each part."""
    logging.set_verbosity(logging.ERROR)
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, JAX {jax.__version__}")
    for name in WANTED.value:
        try:
            measure = part(name)
        except ImportError as error:
            print(f"{name}: left out, {error.name} is not installed")
        except RequestError as error:
            raise SystemExit(f"--parts: {error}") from None
        else:
            measure(ROUNDS.value, STEPS.value, BATCH_SIZE.value)


if __name__ == "__main__":
    app.run(main)
