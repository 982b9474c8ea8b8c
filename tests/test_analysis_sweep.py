"""One walk for several measures: what is compiled, what is kept in memory, what the network sees."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from cnnjax.analysis import curves, equivariance, goodfellow, normalised_variance
from cnnjax.analysis.activity import activity
from cnnjax.analysis.confusion import confusion_matrix
from cnnjax.analysis.curves import shift_consistency
from cnnjax.analysis.effective_receptive_field import effective_receptive_field
from cnnjax.analysis.gradients import gradient_norms
from cnnjax.analysis.lie_derivative import lie_derivative_errors
from cnnjax.analysis.probes import probe_accuracy
from cnnjax.analysis.robustness import robustness_curve, transfer_matrix
from cnnjax.analysis.similarity import cka
from cnnjax.analysis.sizes import size_curve
from cnnjax.analysis.strongest import strongest
from cnnjax.analysis.subject import Subject
from cnnjax.analysis.sweep import Batch, Outputs, Sweep, Tally, walk
from cnnjax.analysis.transformed import transformed_outputs
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.models.network import Network, Stage
from cnnjax.ops.transformations import default_magnitudes
from tests.variables import drawn_variables

SIGNALS = np.random.default_rng(5).integers(0, 256, (1600, 16, 1)).astype(np.uint8)
NETWORK = Network((Stage("stage", Conv(2, 3)), Stage("head", Dense(3))))
SUBJECT = Subject(NETWORK, drawn_variables(NETWORK, (1, 16, 1)), (120.0,), (60.0,))
LABELS = np.arange(1600) % 3
KEY = jax.random.key(0)
TALLIES = (curves.tally, equivariance.tally, normalised_variance.tally, goodfellow.tally)


def sweep(examples: int, batch_size: int = 100, magnitudes: int = 21) -> Sweep:
    signals, labels = SIGNALS[:examples], LABELS[:examples]
    return Sweep(SUBJECT, signals, "shift", default_magnitudes("shift", magnitudes), KEY, batch_size, labels)


def test_a_sweep_of_21_magnitudes_compiles_each_program_once() -> None:
    programs: tuple[Any, ...] = (
        transformed_outputs,
        curves._top_1,
        equivariance._errors,
        equivariance._distances,
        normalised_variance._gathered,
        normalised_variance._variance_along,
        goodfellow._count,
        goodfellow._keep_greatest,
    )
    before = [program._cache_size() for program in programs]
    walk(sweep(190, 95), *TALLIES)
    assert [program._cache_size() - size for program, size in zip(programs, before, strict=True)] == [1] * len(programs)


def test_neither_images_nor_magnitudes_are_kept() -> None:
    held = []

    def gather(so_far: None, batch: Batch, moved: Outputs, magnitude: np.float32) -> None:
        held.append(sum(array.nbytes for array in jax.live_arrays()))

    def nothing(sweep: Sweep) -> Tally:
        return Tally(gather, lambda gathered, batch: np.zeros(1), lambda total: [])

    peaks = []
    for examples, magnitudes in ((200, 3), (800, 3), (200, 12)):
        held.clear()
        walk(sweep(examples, magnitudes=magnitudes), nothing)
        peaks.append(max(held))
    assert peaks[0] == peaks[1] == peaks[2] > 100 * 16 * 4


MEASURED: dict[str, Callable[[int], object]] = {
    "a walk": lambda n: walk(sweep(n, magnitudes=3), *TALLIES),
    "consistency": lambda n: shift_consistency(SUBJECT, SIGNALS[:n], 2, KEY, 1, 100),
    "lie_derivative": lambda n: lie_derivative_errors(SUBJECT, SIGNALS[:n], "shift", 100),
    "cka": lambda n: cka(SUBJECT, SUBJECT, SIGNALS[:n], key=KEY, batch_size=100),
    "receptive_field": lambda n: effective_receptive_field(SUBJECT, SIGNALS[:n], batch_size=100),
    "activity": lambda n: activity(SUBJECT, SIGNALS[:n], batch_size=100),
    "confusion": lambda n: confusion_matrix(SUBJECT, SIGNALS[:n], LABELS[:n], batch_size=100),
    "robustness": lambda n: robustness_curve(
        SUBJECT, SIGNALS[:n], LABELS[:n], "pgd", "linf", [0.1], KEY, batch_size=100
    ),
    "transfer": lambda n: transfer_matrix(
        {"a": SUBJECT, "b": SUBJECT}, SIGNALS[:n], LABELS[:n], "pgd", "linf", 0.1, KEY, batch_size=100
    ),
    "gradients": lambda n: gradient_norms(SUBJECT, SIGNALS[:n], LABELS[:n], key=KEY, batch_size=100),
    "probes": lambda n: probe_accuracy(
        SUBJECT, (SIGNALS[:n], LABELS[:n]), (SIGNALS[:n], LABELS[:n]), key=KEY, strengths=[1.0], most_bytes=16_000
    ),
    "sizes": lambda n: size_curve(SUBJECT, SIGNALS[:n], LABELS[:n], [1.0], 100),
    "strongest": lambda n: strongest(SUBJECT, SIGNALS[:n], ["stage"], batch_size=100),
}


@pytest.mark.parametrize(
    "measure", [name if name == "a walk" else pytest.param(name, marks=pytest.mark.slow) for name in MEASURED]
)
def test_the_host_s_memory_grows_by_less_than_what_a_stage_makes_of_an_image(measure: str) -> None:
    def peak(examples: int) -> int:
        tracemalloc.start()
        MEASURED[measure](examples)
        (_, most) = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    for examples in (400, 1600):
        MEASURED[measure](examples)  # What is compiled stays.
    # An int64 and an int32 or two for each image are places and orders; one stage's outputs would be 64 bytes.
    assert (peak(1600) - peak(400)) / 1200 < 32


def test_magnitude_zero_is_the_untouched_image() -> None:
    seen = {}

    def gather(so_far: None, batch: Batch, moved: Outputs, magnitude: np.float32) -> None:
        seen[float(magnitude)] = moved is batch.outputs

    walk(sweep(100, magnitudes=3), lambda _: Tally(gather, lambda gathered, batch: np.zeros(1), lambda total: []))
    assert seen == {-10: False, 0: True, 10: False}


def test_no_magnitude_and_no_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="a sweep of shift needs one magnitude at least"):
        walk(Sweep(SUBJECT, SIGNALS, "shift", []), equivariance.tally)
    with pytest.raises(ValueError, match="accuracy needs the images' labels"):
        walk(Sweep(SUBJECT, SIGNALS, "shift", [1.0]), curves.tally)
