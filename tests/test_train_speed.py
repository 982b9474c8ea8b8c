"""How much a step computes, and how much the devices can."""

import jax
import pytest

from cnnjax.models.registry import build
from cnnjax.train import speed
from cnnjax.train.speed import measure_peak, step_multiply_adds

# Of a 3 x 3 convolution to 2 maps on 6 x 6, halved by pooling, and of the head.
CONVOLUTION, HEAD = 36 * 9 * 2, 9 * 2 * 3


def test_step_is_three_forward_passes_of_what_it_computes() -> None:
    model = build("convnet", num_classes=3, width=2, depth=1, kernel_size=3)
    assert step_multiply_adds(model, (6, 6, 1), 5) == 3 * 5 * (CONVOLUTION + HEAD)
    assert step_multiply_adds(model, (6, 6, 1), 5, "stage1", (3, 3, 2)) == 3 * 5 * HEAD


def test_peak_is_of_the_smallest_product_that_takes_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_SMALLEST", 8)
    seconds = {8: 0.01, 16: 0.04, 32: 0.4}
    monkeypatch.setattr(speed, "_seconds", lambda multiply, matrices: seconds[matrices.shape[-1]])
    assert measure_peak("bfloat16") == pytest.approx(2 * jax.device_count() * 32**3 / 0.4)
