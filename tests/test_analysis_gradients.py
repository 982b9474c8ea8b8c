"""Gradient norms of a linear chain, whose slope is known by theory, and of drawn layers, by hand."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from scipy.special import softmax

import cnnjax
from cnnjax.analysis.findings import Finding
from cnnjax.analysis.gradients import gradient_norms
from cnnjax.analysis.subject import Subject
from cnnjax.layers.dense import Dense
from cnnjax.layers.sequence import Named, Sequential
from cnnjax.models.network import Network, Stage
from tests.variables import drawn_variables

CHAIN = Network((*(Stage(f"layer{n}", Dense(6)) for n in range(1, 5)), Stage("head", Dense(3))))
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.normal(size=(7, 3, 2)).astype(np.float32), RNG.integers(0, 3, 7)
KEY = jax.random.key(0)


def values(findings: list[Finding], metric: str) -> dict[str | None, float]:
    return {finding.stage: finding.value for finding in findings if finding.metric == metric}


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_slope_of_a_linear_chain(scale: float) -> None:
    variables = drawn_variables(CHAIN, IMAGES.shape)
    for n in range(1, 5):
        rotation = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
        variables["params"][f"layer{n}"]["kernel"] = (scale * rotation).astype(np.float32)
    found = values(
        gradient_norms(Subject(CHAIN, variables, (0.0,) * 2, (1.0,) * 2), IMAGES, LABELS, key=KEY, batch_size=4),
        "output_gradient_norm",
    )
    logs = np.log([found[stage] for stage in ("layer4", "layer3", "layer2", "layer1", "input")])
    np.testing.assert_allclose(np.diff(logs), np.log(scale), atol=1e-5)


@pytest.mark.parametrize(("batch_size", "smoothing"), [(3, 0.0), (50, 0.1)])
def test_backpropagation_by_hand(batch_size: int, smoothing: float) -> None:
    variables = drawn_variables(CHAIN, IMAGES.shape)
    subject = Subject(CHAIN, variables, (1.0, 2.0), (2.0, 3.0))
    findings = gradient_norms(subject, IMAGES, LABELS, key=KEY, label_smoothing=smoothing, batch_size=batch_size)
    stages = CHAIN.stage_names
    outputs = [((IMAGES - np.array([1, 2])) / np.array([2, 3])).reshape(7, 6)]
    for stage in stages:
        outputs.append(outputs[-1] @ variables["params"][stage]["kernel"] + variables["params"][stage]["bias"])
    signal = softmax(outputs[-1], axis=1) - ((1 - smoothing) * np.eye(3)[LABELS] + smoothing / 3)
    signals, kernels = {}, {}
    for stage, below in zip(reversed(stages), outputs[-2::-1], strict=True):
        signals[stage] = np.linalg.norm(signal, axis=1)
        kernels[f"{stage}/kernel"] = np.linalg.norm(below.T @ signal) / 7
        signal = signal @ variables["params"][stage]["kernel"].T
    signals["input"] = np.linalg.norm(signal, axis=1)
    means = {stage: norms.mean() for stage, norms in signals.items()}
    assert values(findings, "gradient_norm") == pytest.approx(kernels, rel=1e-4)
    assert values(findings, "output_gradient_norm") == pytest.approx(means, rel=1e-4)
    (own,) = [finding for finding in findings if finding.stage == "layer2"]
    reach = 2.4469118 * signals["layer2"].std(ddof=1) / 7**0.5
    assert (own.low, own.high) == pytest.approx((means["layer2"] - reach, means["layer2"] + reach), rel=1e-4)


class Projection(nn.Module):
    """A layer that is not run by being called."""

    @nn.compact
    def project(self, x: jax.Array) -> jax.Array:
        return x @ self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], 6))


class Ending(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        return Dense(3, name="b")(Projection(name="a").project(x), train=train)


def test_kernels_are_in_the_order_in_which_the_network_applies_them() -> None:
    names = ("conv", *(f"layer{n}" for n in range(1, 12)), "a")
    layers = Sequential(tuple(Named(name, Dense(6)) for name in names))
    model = Network((Stage("stem", Dense(6)), Stage("stage1", layers), Stage("head", Ending())))
    subject = Subject(model, drawn_variables(model, IMAGES.shape), (0.0,) * 2, (1.0,) * 2)
    found = gradient_norms(subject, IMAGES, LABELS, key=KEY)
    paths = ["stem", *(f"stage1/{name}" for name in names), "head/b", "head/a"]
    assert list(values(found, "gradient_norm")) == [f"{path}/kernel" for path in paths]
    assert list(values(found, "output_gradient_norm")) == ["input", "stem", "stage1", "head"]


def test_intervals_of_kernels_are_from_leaving_batches_out() -> None:
    subject = Subject(CHAIN, drawn_variables(CHAIN, IMAGES.shape), (0.0,) * 2, (1.0,) * 2)

    def of(rows: list[int]) -> dict[str | None, Finding]:
        findings = gradient_norms(subject, IMAGES[rows], LABELS[rows], key=KEY, batch_size=2)
        return {finding.stage: finding for finding in findings if finding.metric == "gradient_norm"}

    whole, left = of([0, 1, 2, 3, 4, 5]), [of(rows) for rows in ([2, 3, 4, 5], [0, 1, 4, 5], [0, 1, 2, 3])]
    for path, finding in whole.items():
        pseudovalues = [3 * finding.value - 2 * part[path].value for part in left]
        reach = 4.3026527 * np.std(pseudovalues, ddof=1) / 3**0.5
        assert (finding.low, finding.high) == pytest.approx((finding.value - reach, finding.value + reach), rel=1e-3)
    assert np.isnan(of([0, 1])["head/kernel"].low)


def test_the_network_runs_as_in_training() -> None:
    network = cnnjax.build("convnet", num_classes=3, width=2, depth=1, kernel_size=3, norm="batch", dropout=0.5)
    variables = drawn_variables(network, (2, 4, 2))
    images = RNG.normal(size=(7, 4, 2)).astype(np.float32)
    other = {**variables, "batch_stats": jax.tree.map(lambda leaf: leaf + 3, variables["batch_stats"])}

    def found(variables: dict, seed: int) -> list[Finding]:
        subject = Subject(network, variables, (0.0,) * 2, (1.0,) * 2)
        return gradient_norms(subject, images, LABELS, key=jax.random.key(seed), batch_size=3)

    # Running statistics do not matter, and what dropout drops does.
    assert found(variables, 0) == found(other, 0)
    assert found(variables, 0) != found(variables, 1)
    # A seventh image alone would have no variance, and a gradient as large as batch norm's epsilon is small.
    assert all(0 < finding.value < 10 for finding in found(variables, 0))


@pytest.mark.parametrize(
    ("images", "labels", "batch_size", "message"),
    [(2, [0, 3], 1, "labels must be in 0 ... 2"), (2, [0], 1, "as many labels"), (2, [0, 1], 0, "batch size of")],
)
def test_wrong_input(images: int, labels: list[int], batch_size: int, message: str) -> None:
    subject = Subject(CHAIN, drawn_variables(CHAIN, IMAGES.shape), (0.0,) * 2, (1.0,) * 2)
    with pytest.raises(ValueError, match=message):
        gradient_norms(subject, IMAGES[:images], np.array(labels), key=KEY, batch_size=batch_size)
