"""Dead units and sparsity, of units whose responses are chosen, and counted by NumPy."""

import jax
import numpy as np
import pytest
from scipy import stats

from cnnjax.analysis.activity import activity
from cnnjax.analysis.findings import Finding
from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.layers.blocks import ConvBlock
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.models.network import Network, Stage
from tests.variables import drawn_variables

NETWORK = Network((Stage("stage1", ConvBlock(Conv(4, 3), jax.nn.relu)), Stage("head", Dense(3))))


def values(findings: list[Finding]) -> dict[tuple[str, str | None], float]:
    return {(finding.metric, finding.stage): finding.value for finding in findings}


def treves_rolls(responses: np.ndarray) -> float:
    n = responses.size
    return (1 - (responses.sum() / n) ** 2 / (np.square(responses).sum() / n)) / (1 - 1 / n)


@pytest.mark.parametrize("size", [(5,), (4, 5)], ids=["signals", "images"])
def test_against_numpy(size: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (7, *size, 2)).astype(np.uint8)
    variables = drawn_variables(NETWORK, images.shape)
    variables["params"]["stage1"]["conv"]["bias"] = np.float32([-1e3, 0, 0.5, -0.5])
    subject = Subject(NETWORK, variables, (120.0, 130.0), (60.0, 70.0))
    findings = activity(subject, images, batch_size=3)
    found = values(findings)
    for stage, output in stage_outputs(subject, images).items():
        outputs = np.asarray(output, np.float64)
        units = [np.maximum(outputs[..., unit], 0) for unit in range(outputs.shape[-1])]
        working = [unit for unit in units if unit.any()]
        assert found["dead_units", stage] == 1 - len(working) / len(units)
        np.testing.assert_allclose(found["zero_share", stage], (outputs == 0).mean(), atol=1e-7)
        np.testing.assert_allclose(found["sparseness", stage], np.mean([treves_rolls(u) for u in working]), rtol=1e-5)
    units = np.maximum(np.asarray(stage_outputs(subject, images)["stage1"], np.float64), 0).reshape(7, -1, 4)[..., 1:]
    left = [np.mean([treves_rolls(unit) for unit in np.delete(units, image, axis=0).T]) for image in range(7)]
    reach = stats.t.ppf(0.975, 6) * np.sqrt(6 / 7 * np.sum((np.array(left) - np.mean(left)) ** 2))
    (sparse,) = [f for f in findings if (f.metric, f.stage) == ("sparseness", "stage1")]
    np.testing.assert_allclose([sparse.low, sparse.high], [sparse.value - reach, sparse.value + reach], rtol=1e-4)
    assert found["dead_units", "stage1"] == 0.25
    (share,) = [f for f in findings if (f.metric, f.stage) == ("zero_share", "stage1")]
    shares = (np.asarray(stage_outputs(subject, images)["stage1"]) == 0).reshape(7, -1).mean(1)
    interval = stats.t.interval(0.95, 6, loc=shares.mean(), scale=stats.sem(shares))
    np.testing.assert_allclose([share.low, share.high], interval, rtol=1e-5)


def test_the_ends_of_the_scale() -> None:
    # One value fires for all images alike, one for a single image, one for none.
    images = np.zeros((6, 1, 3), np.float32)
    images[:, 0, 0], images[4, 0, 1], images[:, 0, 2] = 2, 3, -1
    subject = Subject(NETWORK, drawn_variables(NETWORK, images.shape), (0.0,) * 3, (1.0,) * 3)
    found = values(activity(subject, images, stages=("input",), batch_size=6))
    assert {stage for _, stage in found} == {"input"}
    assert found["dead_units", "input"] == pytest.approx(1 / 3)
    assert found["zero_share", "input"] == pytest.approx(5 / 18)
    assert found["sparseness", "input"] == pytest.approx((0 + 1) / 2, abs=1e-6)
    silent = values(activity(subject, -np.ones_like(images), stages=("input",), batch_size=6))
    assert silent["dead_units", "input"] == 1
    assert np.isnan(silent["sparseness", "input"])


def test_unknown_stage() -> None:
    subject = Subject(NETWORK, {}, (0.0,), (1.0,))
    with pytest.raises(ValueError, match="no stage 'stage2'; there are: input, stage1, head"):
        activity(subject, np.zeros((2, 3, 1)), stages=("stage2",))
