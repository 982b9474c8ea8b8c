"""Images that mean nothing and of which the network is sure: fooling images (Nguyen, Yosinski and Clune 2015)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.special import expit

from cnnjax.analysis.log_odds import ascent, class_count
from cnnjax.analysis.subject import Subject, logits_of

# Of the directly encoded images in the paper.
MUTATION_RATE = 0.1
HALF_LIFE = 1000
MUTATION_STRENGTH = 15


@dataclasses.dataclass(frozen=True)
class Fooling:
    """An image for each class, and how sure the network is of it.

    Attributes:
      images: legal pixels in their own units, float32 [classes, *spatial, C].
      confidence: the softmax probability of each image's class, in [0, 1], float64 [classes].
      history: that of the best image so far, at the start and after each step: float64 [1 + steps, classes]. It never
        falls.
    """

    images: np.ndarray
    confidence: np.ndarray
    history: np.ndarray


def fooling_by_gradient(
    subject: Subject, shape: tuple[int, ...], key: jax.Array, *, steps: int = 100, step_size: float = 0.02
) -> Fooling:
    """Ascent on each class's log-probability from noise, all classes at once: x <- clip(x + s g / rms(g)).

    g is the gradient of log p / (1 - p), a positive multiple of that of log p, which does not vanish where the network
    is sure; rms is the root of the mean of its squares. The best image on the way counts.

    Args:
      subject: the network.
      shape: of an image, (*spatial, C).
      key: of the noise, uniform over the legal pixels.
      steps: how many, at least 0.
      step_size: the root mean square of a step as a share of the range of legal pixels, above 0.

    Raises:
      ValueError: for a shape that the network does not take, or an illegal number of steps or step size.
    """
    _check_request(subject, shape, steps)
    if not 0 < step_size < np.inf:
        raise ValueError(f"a step size is a share of the pixels' range, above 0, not {step_size}")
    noise = _noise(subject, key, (class_count(subject, shape), *shape))
    images, history = _climb(subject, noise, np.float32(step_size), steps=steps)
    confidence = expit(np.asarray(history, np.float64))
    return Fooling(np.asarray(images), confidence[-1], confidence)


def fooling_by_evolution(
    subject: Subject, shape: tuple[int, ...], key: jax.Array, *, generations: int = 200, children: int = 100
) -> Fooling:
    """MAP-Elites over directly encoded images: for each class the image of which the network is surest so far.

    A generation draws parents uniformly from the classes' best, changes each by `polynomial_mutation` of a tenth of
    the pixels (half as many after every 1,000 generations), and lets every child compete for every class. It starts
    from noise, as many images as classes. The paper ran 20,000 generations on MNIST.

    Args:
      subject: the network.
      shape: of an image, (*spatial, C).
      key: of all that is drawn.
      generations: how many, at least 0.
      children: of a generation, at least 1.

    Raises:
      ValueError: for a shape that the network does not take, or an illegal number of generations or children.
    """
    _check_request(subject, shape, generations)
    if children < 1:
        raise ValueError(f"a generation has at least 1 child, not {children}")
    noise = _noise(subject, jax.random.fold_in(key, 0), (class_count(subject, shape), *shape))
    images, history = _evolve(subject, noise, key, generations=generations, children=children)
    confidence = np.exp(np.asarray(history, np.float64))
    return Fooling(np.asarray(images), confidence[-1], confidence)


def polynomial_mutation(
    key: jax.Array, images: jax.Array, rate: jax.typing.ArrayLike, low: float, high: float
) -> jax.Array:
    """Each pixel, with the probability `rate`, moved by d (high - low) and clipped to the legal pixels (Deb 2001).

    d has the density (1 + s) / 2 (1 - |d|)^s on [-1, 1], with the strength s = 15 of Nguyen and others (2015).

    Args:
      key: of all that is drawn.
      images: float32 of any shape.
      rate: in [0, 1].
      low, high: the ends of the legal pixels.
    """
    chosen, moved = jax.random.split(key)
    u = jax.random.uniform(moved, images.shape, minval=-1, maxval=1)
    distance = jnp.sign(u) * (1 - (1 - jnp.abs(u)) ** (1 / (MUTATION_STRENGTH + 1)))
    mutated = jnp.clip(images + distance * (high - low), low, high)
    return jnp.where(jax.random.bernoulli(chosen, rate, images.shape), mutated, images)


def _check_request(subject: Subject, shape: tuple[int, ...], steps: int) -> None:
    if len(shape) < 2 or min(shape) < 1 or shape[-1] != len(subject.mean):
        raise ValueError(f"an image's shape is (*spatial, {len(subject.mean)}) for this network, not {shape}")
    if steps < 0:
        raise ValueError(f"the number of steps or generations is at least 0, not {steps}")


def _noise(subject: Subject, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    drawn = jax.random.uniform(key, shape, minval=subject.low, maxval=subject.high)
    return jnp.clip(drawn, subject.low, subject.high)


@functools.partial(jax.jit, static_argnames="steps")
def _climb(subject: Subject, noise: jax.Array, step_size: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """The best images, and the log-odds of the best so far, [1 + steps, classes]."""
    classes = jnp.arange(len(noise))
    step = step_size * (subject.high - subject.low) * (noise.size / len(noise)) ** 0.5

    def climb(
        carry: tuple[jax.Array, jax.Array, jax.Array], _: None
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array]:
        images, best, odds = carry
        found, direction = ascent(subject, images, classes, "l2")
        better = found > odds
        best = jnp.where(better.reshape(-1, *[1] * (noise.ndim - 1)), images, best)
        odds = jnp.where(better, found, odds)
        return (jnp.clip(images + step * direction, subject.low, subject.high), best, odds), odds

    start = (noise, noise, jnp.full(len(noise), -jnp.inf))
    (_, best, _), history = lax.scan(climb, start, length=steps + 1)
    return best, history


@functools.partial(jax.jit, static_argnames=("generations", "children"))
def _evolve(
    subject: Subject, noise: jax.Array, key: jax.Array, generations: int, children: int
) -> tuple[jax.Array, jax.Array]:
    """The best images, and the log-probability of the best so far, [1 + generations, classes]."""
    classes = jnp.arange(len(noise))

    def compete(elites: jax.Array, scores: jax.Array, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = jax.nn.log_softmax(logits_of(subject, images))
        winners = jnp.argmax(found, axis=0)
        better = found[winners, classes] > scores
        elites = jnp.where(better.reshape(-1, *[1] * (noise.ndim - 1)), images[winners], elites)
        return elites, jnp.where(better, found[winners, classes], scores)

    def evolve(
        carry: tuple[jax.Array, jax.Array], generation: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        elites, scores = carry
        drawn, changed = jax.random.split(jax.random.fold_in(key, generation))
        parents = elites[jax.random.randint(drawn, (children,), 0, len(noise))]
        rate = MUTATION_RATE * 0.5 ** (generation // HALF_LIFE)
        offspring = polynomial_mutation(changed, parents, rate, subject.low, subject.high)
        elites, scores = compete(elites, scores, offspring)
        return (elites, scores), scores

    start = compete(noise, jnp.full(len(noise), -jnp.inf), noise)
    (elites, _), history = lax.scan(evolve, start, jnp.arange(1, generations + 1))
    return elites, jnp.concatenate([start[1][None], history])
