"""Whether runs gain from being trained together on this machine's devices, measured on a small network."""

import dataclasses
import math
import statistics
import time
from collections.abc import Sequence

import jax
import numpy as np

from cnnjax.config import Config, DataConfig, ModelConfig, OptimConfig, TrainConfig
from cnnjax.data.dataset import Dataset, DataSummary, Split
from cnnjax.models.cost import intermediate_bytes
from cnnjax.models.network import run_stages
from cnnjax.models.tracing import abstract_variables
from cnnjax.train.assembly import Assembly, assemble_alone, assemble_together, make_member
from cnnjax.train.beginning import Shared, feature_bytes
from cnnjax.train.interruption import Interruption
from cnnjax.train.population import Form
from cnnjax.train.setup import build_model
from cnnjax.train.speed import step_multiply_adds

_MEMBERS, _BATCH_SIZE, _SHAPE, _CLASSES = 8, 64, (28, 28, 1), 10
_WIDTHS = (8, 32, 128, 512)
_ROUNDS, _STEPS = 5, 5
_FORMS: tuple[Form, ...] = ("vmap", "map")

# Runs together are taken to be faster from here on: less is within what a measurement differs from the next.
LEAST_GAIN = 1.1
# Of the memory of a device that the members of a population may fill; the compiler's own needs take the rest.
_MEMORY_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Gain:
    """How much faster runs of a network are together than one after another.

    Attributes:
      multiply_adds: of one of the network's steps.
      form: the faster one of the ways to compute them together.
      ratio: of the images per second; more than 1 is faster.
      seconds: of one of the network's steps, alone.
    """

    multiply_adds: int
    form: Form
    ratio: float
    seconds: float


def measure_gains(interruption: Interruption) -> list[Gain]:
    """Measures a convnet on noise, and wider ones as long as they gain: the large gain less than the small."""
    gains: list[Gain] = []
    for width in _WIDTHS:
        config = Config(
            model=ModelConfig(name="convnet", depth=1, width=width),
            data=DataConfig(name="noise"),
            optim=OptimConfig(schedule="constant"),
            train=TrainConfig(batch_size=_BATCH_SIZE * jax.device_count(), epochs=1e6),
        )
        gains.append(_measure(config, _noise(), interruption))
        if gains[-1].ratio < LEAST_GAIN:
            break
    return gains


def _noise() -> Dataset:
    rng = np.random.default_rng(0)
    size = 4 * _BATCH_SIZE * jax.device_count()
    split = Split(rng.integers(0, 256, (size, *_SHAPE), np.uint8), rng.integers(0, _CLASSES, size).astype(np.int32))
    sizes = dict.fromkeys(("train", "validation", "test"), size)
    return Dataset(DataSummary("noise", _SHAPE, _CLASSES, (128.0,), (74.0,), 0.0, 255.0, sizes), split, split, split)


def _measure(config: Config, dataset: Dataset, interruption: Interruption) -> Gain:
    shared = Shared()
    alone = assemble_alone(make_member(config, dataset, 0, shared, interruption), shared)
    members = [make_member(config, dataset, seed, shared, interruption, axis=None) for seed in range(_MEMBERS)]
    turns = {form: _Turn(assemble_together(members, form, shared)) for form in _FORMS}
    one = _Turn(alone)
    for turn in (one, *turns.values()):
        turn.seconds()
    ratios: dict[Form, list[float]] = {form: [] for form in _FORMS}
    alone_seconds = []
    for _ in range(_ROUNDS):
        interruption.check()
        alone_seconds.append(one.seconds())
        for form, turn in turns.items():
            ratios[form].append(_MEMBERS * alone_seconds[-1] / turn.seconds())
    middle = {form: statistics.median(values) for form, values in ratios.items()}
    form = max(_FORMS, key=middle.__getitem__)
    step = step_multiply_adds(alone.members[0].blueprint.model, _SHAPE, config.train.batch_size)
    return Gain(step, form, middle[form], statistics.median(alone_seconds) / _STEPS)


class _Turn:
    """A number of steps of a program, timed."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly, self._state = assembly, assembly.state

    def seconds(self) -> float:
        """How long they take."""
        started = time.monotonic()
        counts = [_STEPS] * len(self._assembly.members)
        self._state = self._assembly.program.train(self._state, self._assembly.inputs, counts)
        jax.block_until_ready(self._state.step)
        return time.monotonic() - started


def expected_gain(gains: Sequence[Gain], step: int) -> tuple[Form, float]:
    """The form and the gain for a network of so many multiply-adds a step: between the measured ones, over the
    logarithm of their size; below them that of the smallest; above them none, for none was seen."""
    form = gains[0].form
    sizes = np.log([gain.multiply_adds for gain in gains])
    return form, float(np.interp(np.log(max(step, 1)), sizes, [gain.ratio for gain in gains], right=1.0))


def most_members(config: Config, summary: DataSummary, form: Form, memory: float) -> int:
    """How many runs of a config's network the devices' memory holds; at least one for each device.

    All variables are counted eight times: themselves, two moments of the optimiser and the best evaluation, each as a
    step reads and as it writes it. What a batch's forward pass computes is counted twice, for every run where they are
    computed side by side (`vmap`). The examples, which all runs share, are counted once; features of frozen filters, of
    which each run may have its own, for every run.

    Args:
      config: of any of the runs.
      summary: of its data.
      form: how a device computes its runs.
      memory: bytes of one device.
    """
    model = build_model(config.model, summary)
    variables = abstract_variables(model, summary.shape)
    kept = 8 * sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(variables))
    batch = jax.ShapeDtypeStruct((config.train.batch_size, *summary.shape), np.float32)
    passing = 2 * intermediate_bytes(lambda variables, x: run_stages(model, variables, x), variables, batch)
    features = feature_bytes(config, summary)
    examples = 0 if features else 4 * math.prod(summary.shape) * sum(summary.sizes.values())
    kept += features
    room = _MEMORY_SHARE * memory - examples
    fits = (room - passing) / kept if form == "map" else room / (kept + passing)
    return max(1, int(fits)) * jax.device_count()
