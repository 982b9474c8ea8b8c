"""What changes while a run trains."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cnnjax.filters.plan import Flat


class Sums(NamedTuple):
    """Totals over examples, whose ratios are the metrics.

    Attributes:
      loss: float32, the sum of the examples' losses.
      correct: int32, examples whose highest logit is their label's.
      examples: int32.
    """

    loss: jax.Array
    correct: jax.Array
    examples: jax.Array

    @classmethod
    def zero(cls) -> "Sums":
        """The totals over nothing."""
        return cls(jnp.float32(0), jnp.int32(0), jnp.int32(0))

    def add(self, other: "Sums") -> "Sums":
        """The totals over both."""
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))

    def metrics(self) -> dict[str, float]:
        """The mean loss and the accuracy in [0, 1]."""
        return {
            "loss": float(self.loss) / int(self.examples),
            "accuracy": int(self.correct) / int(self.examples),
        }


class Best(NamedTuple):
    """The evaluation with the highest validation accuracy, the first of equals.

    Attributes:
      trained, stats: the values then.
      correct: int32, validation examples classified correctly; -1 before the first evaluation.
      step: int32.
    """

    trained: Flat
    stats: Flat
    correct: jax.Array
    step: jax.Array


class TrainState(NamedTuple):
    """A run's state at a step: a function of (config, seed, step) and nothing else.

    Attributes:
      step: int32, steps done.
      trained: the parameters that are trained, by path.
      stats: the batch statistics that move, by path.
      optimiser: Optax's state for `trained`.
      sums: over the training examples since the last evaluation.
      best: so far.
    """

    step: jax.Array
    trained: Flat
    stats: Flat
    optimiser: Any
    sums: Sums
    best: Best


def initial_state(trained: Flat, stats: Flat, optimiser: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    # A copy, for the steps take over the memory of the state that they are given.
    copies = jax.tree.map(jnp.copy, trained), jax.tree.map(jnp.copy, stats)
    best = Best(*copies, correct=jnp.int32(-1), step=jnp.int32(0))
    return TrainState(jnp.int32(0), trained, stats, optimiser.init(trained), Sums.zero(), best)
