"""The last layer in closed form, or to convergence, on the features of everything below it.

Every strength of the penalty is tried on the training split, the best on validation is taken (of equals the strongest),
and it alone sees the test split.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from cnnjax.config import HeadConfig
from cnnjax.data.dataset import DataSummary
from cnnjax.data.feed import standardise
from cnnjax.filters.features import MOST_FEATURE_BYTES
from cnnjax.filters.places import layer_input
from cnnjax.filters.plan import Flat
from cnnjax.models.network import Network
from cnnjax.train.beginning import Beginning
from cnnjax.train.chunks import Rows
from cnnjax.train.interruption import Interruption
from cnnjax.train.logistic import logistic_path, logistic_problem
from cnnjax.train.ridge import correct_counts, ridge_path
from cnnjax.train.setup import head_place
from cnnjax.train.step import variables_of
from cnnjax.train.targets import one_hot_targets

# Examples whose features are on the device at a time.
_CHUNK = 2048


@dataclasses.dataclass(frozen=True)
class FittedHead:
    """What was found.

    Attributes:
      params: all parameters by path, the head's among them.
      strength: of the penalty, the one chosen.
      trials: for each strength, what it reached on validation; of `logistic` also whether it converged (1 or 0).
      metrics: loss and accuracy on each split.
    """

    params: Flat
    strength: float
    trials: list[dict[str, Any]]
    metrics: dict[str, dict[str, float]]

    @property
    def warning(self) -> str | None:
        """One line that names the strengths at which it did not converge; None if it did at all."""
        wrong = [trial["strength"] for trial in self.trials if not trial.get("converged", 1)]
        chosen = ", the chosen one" if wrong == [self.strength] else ", the chosen one among them"
        names = ", ".join(f"{strength:g}" for strength in wrong)
        return (
            f"L-BFGS did not converge at strength {names}{chosen if self.strength in wrong else ''}" if wrong else None
        )


def fit_head(
    config: HeadConfig,
    beginning: Beginning,
    summary: DataSummary,
    interruption: Interruption,
) -> FittedHead:
    """Finds the head of a run whose other parameters are frozen.

    Args:
      config: `ridge` or `logistic`, and the strengths.
      beginning: the run.
      summary: of its data.
      interruption: looked at before each chunk of features.

    Raises:
      Stopped: after a signal.
    """
    head = head_place(beginning.blueprint)
    sizes = summary.sizes
    ends = np.cumsum([0, sizes["train"], sizes["validation"], sizes["test"]])
    spans = {split: (int(a), int(b)) for split, a, b in zip(sizes, ends, ends[1:], strict=False)}
    read = _reader(beginning, head.layer, summary, interruption)

    def rows(split: str) -> Rows:
        start = spans[split][0]
        return lambda first, last: read(start + first, start + last)

    labels = {split: beginning.labels[first:end] for split, (first, end) in spans.items()}
    order = sorted(config.strengths, reverse=True)
    kernels, biases, notes = _solve(config.name, rows("train"), labels["train"], summary.num_classes, order)
    correct = correct_counts(kernels, biases, rows("validation"), sizes["validation"], labels["validation"], _CHUNK)
    accuracies = np.asarray(correct) / sizes["validation"]
    best = int(np.argmax(accuracies))
    metrics = {
        split: _metrics(kernels[best], biases[best], rows(split), labels[split])
        for split in ("train", "validation", "test")
    }
    return FittedHead(
        params={**beginning.params, head.path: kernels[best], f"{head.layer}/bias": biases[best]},
        strength=order[best],
        trials=[
            {"strength": strength, "accuracy": float(accuracy), **note}
            for strength, accuracy, note in zip(order, accuracies, notes, strict=True)
        ],
        metrics=metrics,
    )


def _solve(
    name: str, rows: Rows, labels: np.ndarray, classes: int, strengths: list[float]
) -> tuple[jax.Array, jax.Array, list[dict[str, Any]]]:
    """The kernels [S, D, K] and biases [S, K] of all strengths, and what there is to note of each."""
    examples = len(labels)
    if name == "ridge":
        path = ridge_path(rows, examples, one_hot_targets(labels, classes), strengths, _CHUNK, relative=True)
        return path.kernels, path.biases, [{} for _ in strengths]
    inputs = rows(0, 1).shape[1]
    chunk = examples if examples * inputs * 4 <= MOST_FEATURE_BYTES else _CHUNK
    fits = logistic_path(logistic_problem(rows, examples, labels, classes, chunk), strengths, relative=True)
    notes = [{"converged": int(fit.converged)} for fit in fits]
    return jnp.stack([fit.kernel for fit in fits]), jnp.stack([fit.bias for fit in fits]), notes


def _reader(
    beginning: Beginning, layer: str, summary: DataSummary, interruption: Interruption
) -> Callable[[int, int], jax.Array]:
    """Reads what the head's dense layer is given for the examples [first, last), as [last - first, D]."""
    variables, model = variables_of(beginning.params, beginning.stats), beginning.blueprint.model

    def read(first: int, last: int) -> jax.Array:
        interruption.check()
        x = jnp.asarray(beginning.examples[first:last])
        return _features(variables, x, model, layer, beginning.after, summary.mean, summary.std)

    return read


@functools.partial(jax.jit, static_argnames=("model", "layer", "after", "mean", "std"))
def _features(
    variables: dict[str, Any],
    x: jax.Array,
    model: Network,
    layer: str,
    after: str | None,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> jax.Array:
    """Compiled once for all seeds of a network."""
    x = x if after else standardise(x, mean, std)
    return layer_input(model, variables, x, layer, after).reshape(len(x), -1)


def _metrics(kernel: jax.Array, bias: jax.Array, rows: Rows, labels: np.ndarray) -> dict[str, float]:
    loss, correct = 0.0, 0
    for first in range(0, len(labels), _CHUNK):
        known = labels[first : first + _CHUNK]
        logits = np.asarray(_logits(kernel, bias, rows(first, first + len(known))))
        # By SciPy: all of it compiled would take half a second for each number of features.
        loss -= float(np.take_along_axis(log_softmax(logits, 1), known[:, None], 1).sum())
        correct += int((logits.argmax(1) == known).sum())
    return {"loss": loss / len(labels), "accuracy": correct / len(labels)}


@jax.jit
def _logits(kernel: jax.Array, bias: jax.Array, features: jax.Array) -> jax.Array:
    return jnp.matmul(features, kernel, precision=jax.lax.Precision.HIGHEST) + bias
