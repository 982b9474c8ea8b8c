"""Heads in closed form against scikit-learn's, on the same features."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from cnnjax.config import Config, DataConfig, FilterRule, HeadConfig, ModelConfig, TrainConfig
from cnnjax.data.dataset import Dataset, Split
from cnnjax.models.network import run_stages
from cnnjax.train import head
from cnnjax.train.beginning import Beginning, Shared, begin
from cnnjax.train.head import FittedHead, fit_head
from cnnjax.train.interruption import Interruption, Stopped
from cnnjax.train.step import variables_of

STRENGTHS = (1e-4, 1.0, 1e-2)
CONFIG = Config(
    model=ModelConfig(name="convnet", width=2, depth=1, kernel_size=3, pool="average", dropout=0.5),
    data=DataConfig(name="digits_8x8"),
    filters=(FilterRule("stage1/.*", "he", "frozen"), FilterRule("head/.*")),
    train=TrainConfig(eval_batch_size=256),
)
KERNEL, BIAS = "head/layer/kernel", "head/layer/bias"


@pytest.fixture(scope="module")
def beginning(digits: Dataset) -> Beginning:
    """A stage of random filters, and the features of all splits."""
    found = begin(CONFIG, digits, 0, Shared(), Interruption(), {}, lambda what, share: None)
    assert found.after == "stage1"
    return found


@pytest.fixture(scope="module")
def fitted(digits: Dataset, beginning: Beginning) -> Callable[[str], FittedHead]:
    """A head by its name, found once."""
    return functools.cache(lambda name: fit(name, beginning, digits))


def fit(name: str, beginning: Beginning, data: Dataset, strengths: tuple[float, ...] = STRENGTHS) -> FittedHead:
    return fit_head(HeadConfig(name=name, strengths=strengths), beginning, data.summary, Interruption())


@pytest.fixture(scope="module")
def features(digits: Dataset, beginning: Beginning) -> dict[str, np.ndarray]:
    """Of each split [N, 32], float64, straight from its images."""
    variables = variables_of(beginning.params, beginning.stats)
    run = jax.jit(functools.partial(run_stages, beginning.blueprint.model, variables, until="stage1"))

    def of(split: Split) -> np.ndarray:
        mean, std = digits.summary.mean[0], digits.summary.std[0]
        x = ((split.images.astype(np.float64) - mean) / std).astype(np.float32)
        return np.asarray(run(x), np.float64).reshape(len(split), -1)

    return {"train": of(digits.train), "validation": of(digits.validation), "test": of(digits.test)}


def reference(name: str, strength: float, x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's kernel and bias; the strength is in units of the summed squares of a mean feature."""
    penalty = strength * np.square(x - x.mean(0)).sum(0).mean()
    if name == "ridge":
        model = Ridge(alpha=penalty).fit(x, np.eye(10)[labels])
    else:
        model = LogisticRegression(C=1 / penalty, tol=1e-6, max_iter=5000).fit(x, labels)
    return model.coef_.T, model.intercept_


def scored(x: np.ndarray, labels: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> float:
    return float(((x @ kernel + bias).argmax(1) == labels).mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ridge", "logistic"])
def test_every_strength_has_scikit_learns_accuracy(
    name: str, fitted: Callable[[str], FittedHead], features: dict[str, np.ndarray], digits: Dataset
) -> None:
    found = fitted(name)
    assert [trial["strength"] for trial in found.trials] == sorted(STRENGTHS, reverse=True)
    references = {s: reference(name, s, features["train"], digits.train.labels) for s in STRENGTHS}
    for trial in found.trials:
        expected = scored(features["validation"], digits.validation.labels, *references[trial["strength"]])
        assert trial["accuracy"] == pytest.approx(expected, abs=1.5 / 180)
        assert trial.get("converged", 1) == 1
    kernel, bias = references[found.strength]
    # scikit-learn's L-BFGS stops where the loss no longer falls, some way from where the gradient is 0.
    off = {"ridge": 1e-4, "logistic": 0.01}[name]
    np.testing.assert_allclose(found.params[KERNEL], kernel, atol=off * np.abs(kernel).max())
    accuracy = scored(features["test"], digits.test.labels, kernel, bias)
    assert found.metrics["test"]["accuracy"] == pytest.approx(accuracy, abs=1.5 / 359)
    assert accuracy > 0.85


@pytest.mark.parametrize("name", ["ridge", pytest.param("logistic", marks=pytest.mark.slow)])
def test_strength_is_chosen_on_validation_and_of_equals_the_strongest(
    name: str, fitted: Callable[[str], FittedHead]
) -> None:
    found = fitted(name)
    best = max(trial["accuracy"] for trial in found.trials)
    assert found.strength == next(trial["strength"] for trial in found.trials if trial["accuracy"] == best)
    assert found.metrics["validation"]["accuracy"] == best


@pytest.mark.slow
def test_metrics_are_those_of_the_head_that_is_returned(
    fitted: Callable[[str], FittedHead], features: dict[str, np.ndarray], digits: Dataset
) -> None:
    found = fitted("logistic")
    kernel, bias = (np.asarray(found.params[path], np.float64) for path in (KERNEL, BIAS))
    for name, split in (("train", digits.train), ("validation", digits.validation), ("test", digits.test)):
        scores = features[name] @ kernel + bias
        losses = np.log(np.exp(scores).sum(1)) - scores[np.arange(len(split)), split.labels]
        assert found.metrics[name]["loss"] == pytest.approx(losses.mean(), rel=1e-4)
        assert found.metrics[name]["accuracy"] == pytest.approx((scores.argmax(1) == split.labels).mean(), abs=1e-9)


@pytest.mark.parametrize("name", ["ridge", pytest.param("logistic", marks=pytest.mark.slow)])
def test_all_but_the_head_is_as_it_was_bit_for_bit(
    name: str, fitted: Callable[[str], FittedHead], beginning: Beginning
) -> None:
    found = fitted(name)
    assert found.params.keys() == beginning.params.keys()
    for path, array in beginning.params.items():
        same = np.asarray(found.params[path]).tobytes() == np.asarray(array).tobytes()
        assert same == (path not in (KERNEL, BIAS)), path


@pytest.mark.parametrize("name", ["ridge", pytest.param("logistic", marks=pytest.mark.slow)])
def test_cached_and_uncached_features_give_the_same_head_in_chunks_or_whole(
    name: str,
    fitted: Callable[[str], FittedHead],
    beginning: Beginning,
    digits: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = np.concatenate([split.images for split in (digits.train, digits.validation, digits.test)])
    uncached = dataclasses.replace(beginning, after=None, examples=images)
    monkeypatch.setattr(head, "_CHUNK", 500)
    monkeypatch.setattr(head, "MOST_FEATURE_BYTES", 1)
    chosen = fitted(name)
    found = fit(name, uncached, digits, (chosen.strength,))
    for path in (KERNEL, BIAS):
        expected = np.asarray(chosen.params[path])
        np.testing.assert_allclose(found.params[path], expected, atol=2e-3 * np.abs(expected).max())
    for split, metrics in chosen.metrics.items():
        assert found.metrics[split]["loss"] == pytest.approx(metrics["loss"], rel=1e-3)


@pytest.mark.parametrize("name", ["ridge", pytest.param("logistic", marks=pytest.mark.slow)])
def test_more_features_than_examples(name: str, digits: Dataset, features: dict[str, np.ndarray]) -> None:
    few = Split(digits.train.images[:20], digits.train.labels[:20])
    summary = dataclasses.replace(digits.summary, sizes={**digits.summary.sizes, "train": 20})
    data = Dataset(summary, few, digits.validation, digits.test)
    found = fit(name, begin(CONFIG, data, 0, Shared(), Interruption(), {}, lambda what, share: None), data, (1.0,))
    kernel, _ = reference(name, 1.0, features["train"][:20], few.labels)
    there = np.unique(few.labels)  # scikit-learn's logistic regression has no other classes
    kernel = kernel[:, there] if name == "ridge" else kernel
    assert kernel.shape == (32, len(there))
    np.testing.assert_allclose(found.params[KERNEL][:, there], kernel, atol=0.01 * np.abs(kernel).max())


def test_seeds_of_a_network_share_what_is_compiled(digits: Dataset, beginning: Beginning) -> None:
    fit("ridge", beginning, digits)
    compiled = head._features._cache_size()
    other = begin(CONFIG, digits, 1, Shared(), Interruption(), {}, lambda what, share: None)
    fit("ridge", other, digits)
    assert head._features._cache_size() == compiled


def test_signal_stops_it(beginning: Beginning, digits: Dataset) -> None:
    interruption = Interruption()
    interruption.receive(15)
    with pytest.raises(Stopped):
        fit_head(HeadConfig(name="ridge"), beginning, digits.summary, interruption)
