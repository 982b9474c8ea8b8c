"""Multinomial logistic regression to convergence: a convex problem, lowered by L-BFGS (Liu and Nocedal 1989).

The kernel W and bias b lower the sum over examples of the cross-entropy of softmax(xW + b) and strength / 2 * ||W||^2;
the bias is not penalised. scikit-learn's `C` is 1 / strength. Each value and gradient is over all examples, in float32
at the highest precision of the device.

Inside, features are taken about their mean and in units of one number, their root mean square about it: the same
problem, better conditioned.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnjax.train.chunks import Rows, chunk_reader, mean_of_rows, part_of_chunk
from cnnjax.train.targets import check_labels

Parameters = tuple[jax.Array, jax.Array]
"""Kernel [D, K] and bias [K]."""

Evaluated = tuple[jax.Array, Parameters]
"""A value and its gradient."""

_LBFGS = optax.scale_by_lbfgs(memory_size=10)

# A step must lower the value by this share of what its slope promises (Armijo 1966) or, where the value's rounding
# hides that, leave the slope at most this steep the other way (Hager and Zhang 2005, the approximate condition).
_DECREASE = 1e-4
_RISING_SLOPE = 0.8
_VALUE_ROUNDING = 1e-6
_MOST_HALVINGS = 20

_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


@dataclass(frozen=True)
class LogisticProblem:
    """Examples to separate; see `logistic_problem`.

    Attributes:
      evaluate: from parameters that act on the standardised features, and the penalty for each example, to the mean
        objective and its gradient.
      examples: N.
      classes: K.
      mean: [D], of the features.
      scale: their root mean square about it, over all features and examples; 1 if they are constant.
    """

    evaluate: Callable[[Parameters, float], Evaluated]
    examples: int
    classes: int
    mean: jax.Array
    scale: float


@dataclass(frozen=True)
class LogisticFit:
    """A linear map from features to logits.

    Attributes:
      kernel: [D, K], float32.
      bias: [K], float32.
      strength: the penalty it was fitted under.
      loss: the objective: the sum of the cross-entropies and the penalty.
      converged: whether the gradient became as small as was asked for.
      iterations: steps taken.
    """

    kernel: jax.Array
    bias: jax.Array
    strength: float
    loss: float
    converged: bool
    iterations: int


def logistic_problem(
    rows: Rows, examples: int, labels: jax.Array | np.ndarray, classes: int, chunk: int
) -> LogisticProblem:
    """The examples, standardised; the same problem serves every strength.

    Args:
      rows: the features; every read has the same number of rows, the last one overlapping the one before.
      examples: how many rows there are, N.
      labels: [N] integers.
      classes: K, at least 2.
      chunk: rows read at a time. If that is all of them they are read once and a standardised copy is kept on the
        device; otherwise once for their mean, and once for every value and gradient.

    Raises:
      ValueError: for no example, fewer than two classes, a chunk below 1, or labels that are not N classes.
      FloatingPointError: if the features, or their squares, are not all finite.
    """
    if examples < 1 or chunk < 1 or classes < 2:
        raise ValueError(f"needed: examples and chunk >= 1, classes >= 2; given: {examples}, {chunk}, {classes}")
    if len(labels) != examples:
        raise ValueError(f"labels must be [{examples}], not {list(np.shape(labels))}")
    check_labels(labels, classes)
    read, known = chunk_reader(rows, examples, chunk), jnp.asarray(labels)
    start = read(0)
    mean, scale = _moments(read, start, examples)
    kept = _standardise(start, mean, scale) if chunk >= examples else None

    def evaluate(parameters: Parameters, penalty: float) -> Evaluated:
        sums = _penalise(parameters, penalty)
        for first in range(0, examples, chunk):
            features = _standardise(read(first), mean, scale) if kept is None else kept
            sums = _add_losses(sums, parameters, features, known, first)
        return sums

    return LogisticProblem(evaluate, examples, classes, mean, scale)


def fit_logistic(
    problem: LogisticProblem,
    strength: float,
    start: LogisticFit | None = None,
    tolerance: float = 1e-4,
    most_iterations: int = 1000,
) -> LogisticFit:
    """Logistic regression of one strength.

    Args:
      problem: the examples.
      strength: the penalty, > 0: without one, classes that can be separated have no best kernel.
      start: where to begin, such as the fit of another strength; zeros by default.
      tolerance: converged means that no entry of the gradient exceeds this share of the objective, both as means over
        the examples, of features in units of their root mean square.
      most_iterations: gives up after so many steps; also where rounding hides every way down.

    Raises:
      ValueError: if the strength is not above 0 and finite.
    """
    if not 0 < strength < math.inf:
        raise ValueError(f"strength must be above 0 and finite, not {strength}")
    first = (jnp.zeros((len(problem.mean), problem.classes)), jnp.zeros(problem.classes))
    if start is not None:
        first = start.kernel * problem.scale, start.bias + _matmul(problem.mean, start.kernel)
    penalty = strength / (problem.examples * problem.scale**2)
    (scaled, offset), value, converged, iterations = _minimise(
        lambda parameters: problem.evaluate(parameters, penalty), first, tolerance, most_iterations
    )
    kernel = scaled / problem.scale
    bias = offset - _matmul(problem.mean, kernel)
    return LogisticFit(kernel, bias, strength, value * problem.examples, converged, iterations)


def logistic_path(
    problem: LogisticProblem,
    strengths: Sequence[float],
    relative: bool = False,
    tolerance: float = 1e-4,
    most_iterations: int = 1000,
) -> list[LogisticFit]:
    """The fit of every strength, in the order given; from the strongest on each starts where the one before ended.

    Args:
      strengths: penalties > 0.
      relative: strengths are in units of the mean over features of their summed squares about their mean.
      problem, tolerance, most_iterations: as in `fit_logistic`.
    """
    unit = problem.scale**2 * problem.examples if relative else 1
    fits: dict[float, LogisticFit] = {}
    fit = None
    for strength in sorted(set(strengths), reverse=True):
        fits[strength] = fit = fit_logistic(problem, strength * unit, fit, tolerance, most_iterations)
    return [fits[strength] for strength in strengths]


def _moments(read: Callable[[int], jax.Array], start: jax.Array, examples: int) -> tuple[jax.Array, float]:
    """The mean of each feature and the root mean square of all about it."""
    shift = mean_of_rows(start)
    sums = jnp.zeros(len(shift)), jnp.zeros(len(shift))
    for first in range(0, examples, len(start)):
        sums = _add_moments(sums, read(first) if first else start, shift, first, examples)
    mean = sums[0] / examples
    scale = float(jnp.sqrt((sums[1] / examples - mean**2).mean()))
    if not np.isfinite(scale):
        raise FloatingPointError("logistic regression: the features, or their squares, are not all finite numbers")
    return shift + mean, scale or 1.0


@functools.partial(jax.jit, static_argnames="examples")
def _add_moments(
    sums: tuple[jax.Array, jax.Array], features: jax.Array, shift: jax.Array, first: int, examples: int
) -> tuple[jax.Array, jax.Array]:
    new = part_of_chunk(examples, first, len(features))[1]
    shifted = jnp.where(new[:, None], features - shift, 0)
    return sums[0] + shifted.sum(0), sums[1] + jnp.square(shifted).sum(0)


@jax.jit
def _standardise(features: jax.Array, mean: jax.Array, scale: float) -> jax.Array:
    return (features - mean) / scale


@jax.jit
def _penalise(parameters: Parameters, penalty: float) -> Evaluated:
    kernel, bias = parameters
    return penalty / 2 * jnp.vdot(kernel, kernel), (penalty * kernel, jnp.zeros_like(bias))


@functools.partial(jax.jit, donate_argnums=0)
def _add_losses(
    sums: Evaluated, parameters: Parameters, features: jax.Array, labels: jax.Array, first: int
) -> Evaluated:
    """Adds a chunk's share of the mean cross-entropy and of its gradient."""
    begin, new = part_of_chunk(len(labels), first, len(features))
    known = jax.lax.dynamic_slice_in_dim(labels, begin, len(features))

    def share(parameters: Parameters) -> jax.Array:
        kernel, bias = parameters
        losses = _cross_entropies(_matmul(features, kernel) + bias, known)
        return jnp.sum(jnp.where(new, losses, 0)) / len(labels)

    return jax.tree.map(jnp.add, sums, jax.value_and_grad(share)(parameters))


def _cross_entropies(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """log(1 + sum over the wrong classes of exp(logit - logit of the label)), [N].

    In this form a small loss, and its gradient, are known to a small relative error: no 1 is added and taken away.
    """
    label = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    wrong = jnp.where(label, -jnp.inf, logits - own)
    return jax.nn.softplus(jax.nn.logsumexp(wrong, axis=-1))


def _minimise(
    evaluate: Callable[[Parameters], Evaluated], start: Parameters, tolerance: float, most_iterations: int
) -> tuple[Parameters, float, bool, int]:
    """L-BFGS with steps halved from 1 until they are good enough: where it ends, its value, converged, steps taken.

    The loop is Python's, so that a value may be accumulated over chunks that are read meanwhile. On a convex function
    every step's curvature is positive, and no condition on it is needed.
    """
    point, memory = start, _LBFGS.init(start)
    value, gradient = evaluate(point)
    iterations = 0
    while True:
        direction, memory, slope, largest = _descend(point, gradient, memory)
        converged = bool(largest <= tolerance * value)
        step = None if converged or iterations == most_iterations else _search(evaluate, point, value, direction, slope)
        if step is None:
            return point, float(value), converged, iterations
        point, value, gradient = step
        iterations += 1


def _search(
    evaluate: Callable[[Parameters], Evaluated],
    point: Parameters,
    value: jax.Array,
    direction: Parameters,
    slope: float,
) -> tuple[Parameters, jax.Array, Parameters] | None:
    """The first good step along a direction, with its value and gradient; None if even the shortest is not."""
    for halvings in range(_MOST_HALVINGS):
        length = 0.5**halvings
        trial = _move(point, direction, length)
        trial_value, gradient = evaluate(trial)
        if _good(value, slope, direction, (trial_value, gradient), length):
            return trial, trial_value, gradient
    return None


@jax.jit
def _descend(
    point: Parameters, gradient: Parameters, memory: optax.OptState
) -> tuple[Parameters, optax.OptState, jax.Array, jax.Array]:
    """The direction of L-BFGS, its memory, the slope along the direction and the gradient's largest entry."""
    ascent, memory = _LBFGS.update(gradient, memory, point)
    direction = jax.tree.map(jnp.negative, ascent)
    return direction, memory, optax.tree.vdot(gradient, direction), optax.tree.norm(gradient, ord=jnp.inf)


@jax.jit
def _move(point: Parameters, direction: Parameters, length: float) -> Parameters:
    return jax.tree.map(lambda start, change: start + length * change, point, direction)


@jax.jit
def _good(value: jax.Array, slope: float, direction: Parameters, trial: Evaluated, length: float) -> jax.Array:
    trial_value, trial_gradient = trial
    lower = trial_value <= value + _DECREASE * length * slope
    level = trial_value <= (1 + _VALUE_ROUNDING) * value
    trial_slope = optax.tree.vdot(trial_gradient, direction)
    return (slope < 0) & (lower | (level & (trial_slope <= -_RISING_SLOPE * slope)))
