"""Attacks: the worst case of linear networks, and the bound in exact arithmetic."""

from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cnnjax
from cnnjax.analysis import attacks
from cnnjax.analysis.attacks import Attack, adversarial_examples, fgsm, pgd, within_bound
from cnnjax.analysis.subject import Subject
from cnnjax.models.logistic import logistic
from tests.variables import drawn_variables

KEY = jax.random.key(3)
SHAPE = (4, 2)
MEAN, STD = (90.0, 140.0), (30.0, 70.0)


def linear(matrix: np.ndarray) -> Subject:
    """The network whose logits are the standardised pixels times the matrix [pixels, classes]."""
    bias = np.zeros(matrix.shape[1], np.float32)
    head = {"kernel": matrix.astype(np.float32), "bias": bias}
    return Subject(logistic(matrix.shape[1]), {"params": {"head": head}}, MEAN, STD)


def margins(matrix: np.ndarray, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of two classes: the true one's logit less the other's."""
    inputs = ((images.astype(np.float64) - MEAN) / STD).reshape(len(images), -1)
    return (1 - 2 * labels) * (inputs @ (matrix[:, 0] - matrix[:, 1]))


RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(8, 2)).astype(np.float32).astype(np.float64)
TWO_CLASSES = linear(MATRIX)
GREY = RNG.uniform(100, 155, (5, *SHAPE)).astype(np.float32)  # far from the ends of the legal pixels
LABELS = np.array([0, 1, 1, 0, 1])
PULL = (MATRIX[:, 0] - MATRIX[:, 1]) / np.tile(STD, 4)


@pytest.mark.parametrize("epsilon", [0.01, 0.3])
def test_linf_step_on_a_linear_network_costs_epsilon_times_the_l1_norm(epsilon: float) -> None:
    before = margins(MATRIX, GREY, LABELS)
    expected = before - 255 * epsilon * np.abs(PULL).sum()
    stepped = fgsm(TWO_CLASSES, GREY, LABELS, epsilon)
    np.testing.assert_allclose(margins(MATRIX, stepped, LABELS), expected, rtol=1e-5, atol=1e-4)
    # Towards the other class is away from the true one, and a walk ends at the same corner.
    np.testing.assert_array_equal(fgsm(TWO_CLASSES, GREY, 1 - LABELS, epsilon, targeted=True), stepped)
    np.testing.assert_array_equal(pgd(TWO_CLASSES, GREY, LABELS, epsilon, KEY, batch_size=2), stepped)


def test_linf_step_is_the_worst_of_all_legal_images_within_the_bound() -> None:
    images = RNG.integers(0, 256, (5, *SHAPE)).astype(np.uint8)
    stepped = fgsm(TWO_CLASSES, images, LABELS, 0.2)
    assert stepped.dtype == np.float32 and stepped.min() == 0 and stepped.max() == 255
    down = -np.sign((1 - 2 * LABELS)[:, None] * PULL).reshape(5, *SHAPE)
    np.testing.assert_array_equal(stepped, np.clip(images + 51 * down, 0, 255))
    np.testing.assert_array_equal(pgd(TWO_CLASSES, images, LABELS, 0.2, KEY, batch_size=2), stepped)


def test_l2_step_on_a_linear_network_is_along_the_weights() -> None:
    before = margins(MATRIX, GREY, LABELS)
    stepped = fgsm(TWO_CLASSES, GREY, LABELS, 0.2, norm="l2")
    offset = (stepped - GREY).reshape(5, -1)
    along = PULL / np.linalg.norm(PULL) * 51
    np.testing.assert_allclose(offset, -(1 - 2 * LABELS)[:, None] * along, atol=1e-4)
    expected = before - 51 * np.linalg.norm(PULL)
    np.testing.assert_allclose(margins(MATRIX, stepped, LABELS), expected, rtol=1e-5)
    walked = pgd(TWO_CLASSES, GREY, LABELS, 0.2, KEY, norm="l2", steps=40, step_size=0.1, batch_size=2)
    np.testing.assert_allclose(margins(MATRIX, walked, LABELS), expected, rtol=1e-4, atol=1e-4)


def test_targets_of_a_linear_network_are_reached() -> None:
    """Each class sums its own pixels; the most of one's and the least of the others' is within reach at epsilon 1."""
    subject = linear(np.kron(np.eye(4), np.ones((2, 1))))
    targets = np.array([3, 0, 1, 2, 0])
    for method, norm, epsilon in (("fgsm", "linf", 1.0), ("pgd", "linf", 1.0), ("fgsm", "l2", 2.8), ("pgd", "l2", 2.8)):
        attack = Attack(method, norm, targeted=True)
        moved = adversarial_examples(attack, subject, GREY, targets, epsilon, KEY, batch_size=2)
        standardised = (moved.reshape(5, 4, 2) - MEAN) / STD
        np.testing.assert_array_equal(standardised.sum(axis=2).argmax(axis=1), targets)


def test_walks_start_uniformly_in_the_ball_by_place_and_key() -> None:
    images = np.full((400, *SHAPE), 128, np.uint8)
    labels = np.zeros(400, np.int32)

    def starts(norm: str, batch_size: int, key: jax.Array = KEY) -> np.ndarray:
        moved = pgd(TWO_CLASSES, images, labels, 0.25, key, norm=norm, steps=1, step_size=0, batch_size=batch_size)
        return (moved.reshape(400, -1) - 128) / 63.75

    cube = starts("linf", 150)
    np.testing.assert_array_equal(cube, starts("linf", 400))
    assert np.any(cube != starts("linf", 400, jax.random.key(4)))
    assert np.abs(cube).max() <= 1
    np.testing.assert_allclose(np.sort(cube.ravel()), np.linspace(-1, 1, 3200), atol=0.06)
    ball = starts("l2", 400)
    # In a ball of 8 dimensions the eighth power of the distance is uniform, and no direction is preferred.
    np.testing.assert_allclose(np.sort(np.linalg.norm(ball, axis=1) ** 8), np.linspace(0, 1, 400), atol=0.09)
    np.testing.assert_allclose(ball.T @ ball / 400, np.eye(8) / 10, atol=0.025)


def exact_distance(moved: np.ndarray, images: np.ndarray, norm: str) -> list[Fraction]:
    """The distance in L-inf, its square in L2, of each pair."""
    found = []
    for one, other in zip(moved.reshape(len(moved), -1), images.reshape(len(images), -1), strict=True):
        gaps = [abs(Fraction(float(a)) - Fraction(float(b))) for a, b in zip(one, other, strict=True)]
        found.append(max(gaps) if norm == "linf" else sum(gap**2 for gap in gaps))
    return found


@given(
    seed=st.integers(0, 2**32 - 1),
    norm=st.sampled_from(["linf", "l2"]),
    legal=st.sampled_from([(0.0, 255.0), (0.0, 1.0), (-0.3, 0.7), (1e3, 1e3 + 1)]),
    share=st.floats(0, 3),
    spread=st.sampled_from([1e-30, 1e-6, 1e-3, 1, 100]),
)
@settings(max_examples=60)
def test_bound_holds_in_exact_arithmetic(
    seed: int, norm: str, legal: tuple[float, float], share: float, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    low, high = map(np.float32, legal)
    shape = (3, *SHAPE)
    images = rng.uniform(low, high, shape).astype(np.float32)
    images *= rng.choice(np.array([1, 1, 1e-20], np.float32), shape)  # tiny pixels beside large ones
    images = np.clip(images, low, high)
    radius = np.float32(share * spread)
    moved = images + (spread * rng.normal(size=shape)).astype(np.float32)
    found = within_bound(images, moved, radius, norm, low, high)
    assert found.dtype == np.float32 and found.min() >= low and found.max() <= high
    bound = Fraction(float(radius)) ** (1 if norm == "linf" else 2)
    assert all(distance <= bound for distance in exact_distance(found, images, norm))
    # Nothing is given away: what was within stays, and what was not comes as close to the bound as rounding lets it.
    if norm == "linf":
        target = np.clip(np.clip(moved, low, high).astype(np.float64), images - float(radius), images + float(radius))
        assert np.all(
            np.abs(found - target) <= np.spacing(np.maximum(np.abs(target), np.abs(images)).astype(np.float32))
        )
    else:
        offset = np.clip(moved, low, high).astype(np.float64) - images
        length = np.sqrt((offset**2).sum((1, 2), keepdims=True))
        target = images + offset * np.minimum(1, float(radius) / np.maximum(length, 1e-300))
        assert np.all(
            np.abs(found - target) <= 1.01 * np.spacing(np.maximum(np.abs(target), np.abs(images)).astype("f4"))
        )


def test_l2_bound_holds_where_float64_cannot_see_the_excess() -> None:
    """The length of (1, 1e-9) is 1 in float64."""
    images = np.zeros((1, 2, 1), np.float32)
    moved = np.array([[[1], [1e-9]]], np.float32)
    found = within_bound(images, moved, np.float32(1), "l2", 0, 1)
    (squared,) = exact_distance(found, images, "l2")
    assert 1 - 1e-6 < squared <= 1


@pytest.fixture(scope="module")
def convnet() -> Subject:
    model = cnnjax.build("convnet", num_classes=3, width=3, depth=2, kernel_size=3, pool="max", padding="circular")
    return Subject(model, drawn_variables(model, (1, 8, 6, 2)), MEAN, STD)


@pytest.mark.parametrize(
    ("method", "norm"),
    [
        ("pgd", "l2"),
        *(
            pytest.param(*which, marks=pytest.mark.slow)
            for which in (("fgsm", "linf"), ("fgsm", "l2"), ("pgd", "linf"))
        ),
    ],
)
def test_convnet_is_attacked_within_every_bound_by_one_program(method: str, norm: str, convnet: Subject) -> None:
    images = np.random.default_rng(1).uniform(0, 255, (5, 8, 6, 2)).astype(np.float32)
    images[0], images[1], images[2] = 0, 255, np.round(images[2])
    classes = np.array([0, 1, 2, 2, 1])
    programs = attacks._walk._cache_size()
    moved_farther = []
    for epsilon in (0.0, 1e-9, 8 / 255, 0.1, 1 / 3, 1.0, 1e30):
        for targeted, steps in ((False, 3), (True, 2)):
            attack = Attack(method, norm, targeted, steps)
            moved = adversarial_examples(attack, convnet, images, classes, epsilon, KEY, batch_size=4)
            assert moved.dtype == np.float32 and moved.shape == images.shape
            assert moved.min() >= 0 and moved.max() <= 255
            bound = Fraction(epsilon * 255.0) ** (1 if norm == "linf" else 2)
            distances = exact_distance(moved, images, norm)
            assert max(distances) <= bound
            moved_farther.append(max(distances))
            if epsilon == 0:
                np.testing.assert_array_equal(moved, images)
    assert moved_farther[4] > 0
    assert attacks._walk._cache_size() <= programs + 1


@pytest.mark.slow
def test_more_steps_raise_the_cross_entropy_of_a_convnet_further(convnet: Subject) -> None:
    images = np.random.default_rng(2).uniform(60, 200, (4, 8, 6, 2)).astype(np.float32)
    classes = np.array([0, 1, 2, 2])

    @jax.jit
    def cross_entropy(x: jax.Array) -> jax.Array:
        logits = convnet.model.apply(convnet.variables, (x - np.float32(MEAN)) / np.float32(STD))
        return -jax.nn.log_softmax(logits)[np.arange(4), classes]

    at = cross_entropy(images)
    one = cross_entropy(fgsm(convnet, images, classes, 0.1, batch_size=4))
    many = cross_entropy(pgd(convnet, images, classes, 0.1, KEY, steps=20, batch_size=4))
    towards = cross_entropy(pgd(convnet, images, classes, 0.1, KEY, steps=20, targeted=True, batch_size=4))
    assert np.all(at < one) and np.mean(one) <= np.mean(many) and np.all(towards < at)
    gradient = jax.jit(jax.grad(lambda x: cross_entropy(x).sum()))(images)
    stepped = fgsm(convnet, images, classes, 8 / 255, batch_size=4)
    agree = np.sign(stepped - images) == np.sign(gradient)
    assert np.all(agree[np.abs(gradient) > 1e-3 * np.abs(gradient).max()])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "l1"}, "unknown norm 'l1'; there are: linf, l2"),
        ({"epsilon": -0.1}, "epsilon is a share of the pixels' range, finite and 0 at least, not -0.1"),
        ({"epsilon": float("nan")}, "epsilon is a share .* not nan"),
        ({"steps": 0}, "at least 1 step, not 0"),
        ({"step_size": -1.0}, "a step size is a share of the pixels' range, 0 at least, not -1.0"),
        ({"images": GREY * 2}, "legal pixels lie from 0.0 to 255.0; given"),
        ({"images": GREY[..., :1]}, r"images must be \[N, \*spatial, 2\] .* given shape \(5, 4, 1\)"),
        ({"classes": LABELS + 1}, "the classes are 0 to 1; given 1 to 2"),
        ({"classes": LABELS / 2}, "classes must be 5 whole numbers; given float64"),
        ({"key": None}, "pgd starts at random and needs a key"),
    ],
)
def test_bad_requests_are_refused(change: dict[str, object], message: str) -> None:
    request = {"images": GREY, "classes": LABELS, "epsilon": 0.1, "key": KEY, **change}
    with pytest.raises(ValueError, match=message):
        pgd(TWO_CLASSES, **request)


def test_unknown_method_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="unknown method 'bim'; there are: fgsm, pgd"):
        Attack("bim")
