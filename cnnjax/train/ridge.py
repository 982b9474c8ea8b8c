"""Ridge regression in closed form: a whole path of strengths from one matrix of products.

The kernel W and bias b lower ||XW + b - Y||^2 + strength * ||W||^2 (Hoerl and Kennard 1970); the bias is not penalised,
so W acts on the features about their mean, Xc. With no more features than examples W is (Xc'Xc + strength)^-1 Xc'Y, and
otherwise, by the same identity from the other side, Xc'(XcXc' + strength)^-1 Y: the smaller of the two matrices is
made, once, and factored for each strength. All is float32 at the highest precision of the device.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.train.chunks import Rows, chunk_reader, mean_of_rows, part_of_chunk
from cnnjax.train.targets import check_labels

# Eigenvalues of a float32 Gram matrix are off by up to so many units of rounding of the largest: measured, 5.5.
_ROUNDING = 8

# Solutions are corrected by what they leave, at most so often. On digits, whose rarest pixels have a millionth of the
# largest eigenvalue, the largest error of a prediction falls from 2e-2 to 6e-6, and no further.
_REFINEMENTS = 4

# Of a power iteration: the largest eigenvalue is wanted to a factor of two.
_POWERS = 8

_matmul = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


@dataclass(frozen=True)
class RidgePath:
    """One linear map [D] -> [K] for each of S strengths, all float32.

    Attributes:
      kernels: [S, D, K].
      biases: [S, K].
      strengths: [S], the penalties on the squared kernel.
    """

    kernels: jax.Array
    biases: jax.Array
    strengths: jax.Array


def ridge_path(
    rows: Rows,
    examples: int,
    targets: jax.Array | np.ndarray,
    strengths: Sequence[float],
    chunk: int,
    relative: bool = False,
) -> RidgePath:
    """The ridge regressions of every strength, from one matrix of side min(D, N).

    A strength below what rounding leaves in the matrix is made up for by iteration, which does not reach directions
    that rounding hides, so that duplicated or constant features and a strength of 0 give the smallest of the equally
    good kernels.

    Where D <= N the rows are read once. Otherwise each pair of chunks meets: B chunks are read (B + 1) / 2 times and,
    if there are several, once more for the kernels. Two chunks are held at a time besides the first.

    Args:
      rows: the features; every read has the same number of rows, the last one overlapping the one before.
      examples: how many rows there are, N.
      targets: [N, K].
      strengths: S penalties >= 0, as scikit-learn's `alpha`.
      chunk: rows read at a time; where there are fewer examples, all of them.
      relative: strengths are in units of the mean over features of their summed squares about their mean, so that they
        mean the same whatever the scale of the features and the number of examples.

    Raises:
      ValueError: for no example, a chunk below 1, targets that are not [N, K], or a strength below 0 or not finite.
      FloatingPointError: if the features, their squares or the targets are not all finite.
    """
    if examples < 1 or chunk < 1:
        raise ValueError(f"examples and chunk must be at least 1, not {examples} and {chunk}")
    if np.ndim(targets) != 2 or len(targets) != examples:
        raise ValueError(f"targets must be [{examples}, K], not {list(np.shape(targets))}")
    if len(strengths) == 0 or not all(0 <= strength < math.inf for strength in strengths):
        raise ValueError(f"strengths must be one or more finite numbers >= 0, not {list(strengths)}")
    centred, means = _centre(np.asarray(targets, np.float32))
    chunk = math.ceil(examples / math.ceil(examples / chunk))  # as few overlap as can be
    read = chunk_reader(rows, examples, chunk)
    start = read(0)
    shift, width = mean_of_rows(start), start.shape[1]
    if width <= examples:
        gram, mean, cross = _normal_equations(read, start, examples, shift, centred)
        kernels, penalties = _solve(gram, cross, strengths, width, relative)
    else:
        duals, penalties = _solve(_products(read, start, examples, shift), centred, strengths, width, relative)
        kernels, mean = _from_duals(read, start, examples, shift, duals)
    biases = _biases(means, mean, kernels)
    if not np.isfinite(biases).all():
        raise FloatingPointError("ridge regression: the features, their squares or the targets are not all finite")
    return RidgePath(kernels, biases, penalties)


def correct_counts(
    kernels: jax.Array,
    biases: jax.Array,
    rows: Rows,
    examples: int,
    labels: jax.Array | np.ndarray,
    chunk: int,
) -> np.ndarray:
    """How many examples each of S linear maps classes rightly, [S] int32, in one pass over the rows.

    Args:
      kernels: [S, D, K].
      biases: [S, K].
      rows, examples, chunk: as in `ridge_path`.
      labels: [N] integers.

    Raises:
      ValueError: if there are not as many labels as examples, or one is no class.
    """
    if len(labels) != examples:
        raise ValueError(f"labels must be [{examples}], not {list(np.shape(labels))}")
    check_labels(labels, biases.shape[1])
    read, known = chunk_reader(rows, examples, chunk), jnp.asarray(labels)
    counts = np.zeros(len(kernels), np.int32)
    for first in range(0, examples, chunk):
        counts += np.asarray(_count(kernels, biases, read(first), known, first))
    return counts


# Each operation outside a compiled function is compiled by itself, for each shape: a second for each network of a
# screening, where the path itself takes a tenth. So what follows is compiled, small as it is.


@jax.jit
def _centre(targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The targets about their means, and these."""
    means = targets.mean(0)
    return targets - means, means


@jax.jit
def _biases(means: jax.Array, mean: jax.Array, kernels: jax.Array) -> jax.Array:
    return means - _matmul("d,sdk->sk", mean, kernels)


@jax.jit
def _count(kernels: jax.Array, biases: jax.Array, features: jax.Array, labels: jax.Array, first: int) -> jax.Array:
    begin, new = part_of_chunk(len(labels), first, len(features))
    known = jax.lax.dynamic_slice_in_dim(labels, begin, len(features))
    scores = _matmul("nd,sdk->snk", features, kernels) + biases[:, None]
    return jnp.sum((scores.argmax(-1) == known) & new, 1, dtype=jnp.int32)


def _solve(
    gram: jax.Array, right: jax.Array, strengths: Sequence[float], width: int, relative: bool
) -> tuple[jax.Array, jax.Array]:
    """(gram + strength)^-1 right for every strength, [S, *right.shape], as far as rounding lets it be known.

    The strengths in absolute terms come with it: the trace of both matrices of products is that of Xc'Xc. One
    eigendecomposition, which serves all strengths, takes as long as 60 of Cholesky's at a side of 1568.
    """
    trace, largest = map(float, _trace_and_largest_eigenvalue(gram))
    penalties = np.asarray(strengths, np.float32) * np.float32(trace / width if relative else 1)
    floor = _ROUNDING * float(np.finfo(np.float32).eps) * largest or 1.0
    solutions, last = [], math.nan
    for strength in penalties.tolist():
        # Weak ones all ask for what rounding lets be known at least: those that stand together share a factor.
        if max(strength, floor) != last:
            last = max(strength, floor)
            penalty, upper = _factor(gram, last, largest)
            found = _correct(gram, right, upper, np.zeros(right.shape, np.float32), penalty, 1 + _REFINEMENTS)
        solutions.append(_correct(gram, right, upper, found, strength, _REFINEMENTS) if strength < penalty else found)
    return _stack(solutions), jnp.asarray(penalties)


_stack = jax.jit(jnp.stack)


@jax.jit
def _correct(
    gram: jax.Array, right: jax.Array, upper: jax.Array, solution: jax.Array, strength: float, most: int
) -> jax.Array:
    """A solution, corrected by what it leaves, at most so often and no longer than corrections grow smaller by half.

    The factor is off by rounding of the largest eigenvalue; what a solution leaves is known far better. First the
    solution under the penalty is found, which has nothing in directions that rounding hides; then, from there, that
    under a weaker strength, which only reaches what an eigenvalue above the penalty lets be known.
    """
    rounding = _ROUNDING * jnp.finfo(gram.dtype).eps

    State = tuple[jax.Array, jax.Array, jax.Array, jax.Array]

    def correctable(state: State) -> jax.Array:
        number, solution, change, before = state
        return (number < most) & (change > rounding * jnp.linalg.norm(solution)) & (change < before / 2)

    def refine(state: State) -> State:
        number, solution, before, _ = state
        rest = right - _matmul("ij,jk->ik", gram, solution) - strength * solution
        change = jax.scipy.linalg.cho_solve((upper.T, True), rest)
        return number + 1, solution + change, jnp.linalg.norm(change), before

    start: State = jnp.int32(0), solution, jnp.float32(1e37), jnp.float32(jnp.inf)
    return jax.lax.while_loop(correctable, refine, start)[1]


@jax.jit
def _trace_and_largest_eigenvalue(gram: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The second is an estimate, not above it, by power iteration; 0 for a matrix of zeros."""

    def normalise(vector: jax.Array) -> jax.Array:
        return vector / jnp.maximum(jnp.linalg.norm(vector), jnp.finfo(vector.dtype).tiny)

    start = normalise(gram[jnp.argmax(jnp.diagonal(gram))])
    vector = jax.lax.fori_loop(0, _POWERS, lambda _, vector: normalise(_matmul("ij,j->i", gram, vector)), start)
    return jnp.trace(gram), jnp.linalg.norm(_matmul("ij,j->i", gram, vector))


def _factor(gram: jax.Array, penalty: float, largest: float) -> tuple[float, jax.Array]:
    """A penalty and Cholesky's upper factor of gram + penalty: a greater penalty where rounding asks for it."""
    upper, definite = _upper_factor(gram, penalty)
    while not definite and penalty < largest:
        penalty *= _ROUNDING
        upper, definite = _upper_factor(gram, penalty)
    return penalty, upper


@jax.jit
def _upper_factor(gram: jax.Array, penalty: float) -> tuple[jax.Array, jax.Array]:
    """The factor, and whether the sum is positive definite; it is not a number where it is not.

    LAPACK reads columns, and rows are the columns of the transpose: by the transposes no matrix is copied on its way
    there and back. That saves a third of the time at a side of 3136, and four fifths of a solution's.
    """
    lower = jnp.linalg.cholesky(gram.T + penalty * jnp.eye(len(gram)), symmetrize_input=False)
    return lower.T, ~jnp.isnan(lower[-1, -1])


def _normal_equations(
    read: Callable[[int], jax.Array], start: jax.Array, examples: int, shift: jax.Array, targets: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Xc'Xc [D, D], the features' mean [D], and Xc'Y [D, K] for targets about their mean."""
    width = len(shift)
    sums: tuple = tuple(np.zeros(shape, np.float32) for shape in (width, (width, width), (width, targets.shape[1])))
    for first in range(0, examples, len(start)):
        sums = _add_moments(sums, read(first) if first else start, targets, shift, first)
    total, gram, cross = sums
    return *_about_mean(gram, total, shift, examples), cross


@jax.jit
def _about_mean(gram: jax.Array, total: jax.Array, shift: jax.Array, examples: int) -> tuple[jax.Array, jax.Array]:
    """The products about the mean, and the mean, from those about `shift` and the sum about it."""
    return gram - jnp.outer(total, total) / examples, shift + total / examples


@functools.partial(jax.jit, donate_argnums=0)
def _add_moments(
    sums: tuple[jax.Array, jax.Array, jax.Array], features: jax.Array, targets: jax.Array, shift: jax.Array, first: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    total, gram, cross = sums
    begin, new = part_of_chunk(len(targets), first, len(features))
    known = jax.lax.dynamic_slice_in_dim(targets, begin, len(features))
    shifted = jnp.where(new[:, None], features - shift, 0)
    products = _matmul("nd,ne->de", shifted, shifted), _matmul("nd,nk->dk", shifted, known)
    return total + shifted.sum(0), gram + products[0], cross + products[1]


def _products(read: Callable[[int], jax.Array], start: jax.Array, examples: int, shift: jax.Array) -> jax.Array:
    """XcXc' [N, N], filled in block by block."""
    gram: Any = np.zeros((examples, examples), np.float32)
    size = len(start)
    for first in range(0, examples, size):
        one = read(first) if first else start
        for second in range(first, examples, size):
            other = one if second == first else read(second)
            gram = _set_block(gram, one, other, shift, first, second)
    return _about_means(gram)


@jax.jit
def _about_means(gram: jax.Array) -> jax.Array:
    gram = gram - gram.mean(0)
    return gram - gram.mean(1, keepdims=True)


@functools.partial(jax.jit, donate_argnums=0)
def _set_block(
    gram: jax.Array, one: jax.Array, other: jax.Array, shift: jax.Array, first: int, second: int
) -> jax.Array:
    block = _matmul("nd,md->nm", one - shift, other - shift)
    # The places are clamped to the edge as the reads are: rows read twice are written twice, with the same values.
    gram = jax.lax.dynamic_update_slice(gram, block, (first, second))
    return jax.lax.dynamic_update_slice(gram, block.T, (second, first))


def _from_duals(
    read: Callable[[int], jax.Array], start: jax.Array, examples: int, shift: jax.Array, duals: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Kernels Xc' duals [S, D, K], and the features' mean [D]."""
    # Their sum is 0 but for rounding, which would meet all of the features' mean that the shift has left.
    duals = duals - duals.mean(1, keepdims=True)
    sums = jnp.zeros(len(shift)), jnp.zeros((len(duals), len(shift), duals.shape[2]))
    for first in range(0, examples, len(start)):
        sums = _add_kernels(sums, read(first) if first else start, duals, shift, first)
    return sums[1], shift + sums[0] / examples


@functools.partial(jax.jit, donate_argnums=0)
def _add_kernels(
    sums: tuple[jax.Array, jax.Array], features: jax.Array, duals: jax.Array, shift: jax.Array, first: int
) -> tuple[jax.Array, jax.Array]:
    total, kernels = sums
    begin, new = part_of_chunk(duals.shape[1], first, len(features))
    dual = jax.lax.dynamic_slice_in_dim(duals, begin, len(features), axis=1)
    shifted = jnp.where(new[:, None], features - shift, 0)
    return total + shifted.sum(0), kernels + _matmul("nd,snk->sdk", shifted, dual)
