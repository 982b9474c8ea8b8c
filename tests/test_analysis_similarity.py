"""Linear CKA: its invariances, and its formulas in NumPy."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import cnnjax
from cnnjax.analysis.similarity import cka, linear_cka
from cnnjax.analysis.subject import Subject, stage_outputs
from tests.variables import drawn_variables


def hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Song 2012, equation 5, in float64."""
    n = len(x)
    one, two = (np.float64(v) @ np.float64(v).T * (1 - np.eye(n)) for v in (x, y))
    ones = np.ones(n)
    trace = np.trace(one @ two) + (ones @ one @ ones) * (ones @ two @ ones) / ((n - 1) * (n - 2))
    return (trace - 2 / (n - 2) * (ones @ one @ two @ ones)) / (n * (n - 3))


def debiased(x: np.ndarray, y: np.ndarray) -> float:
    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


def biased(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


@pytest.mark.slow
@given(st.sampled_from([4, 9]), st.sampled_from([3, 12]), st.integers(0, 99))
def test_against_numpy(examples: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(2, 1, (examples, width)), rng.normal(-3, 2, (examples, 3))
    y[:, :2] += x[:, :2]
    np.testing.assert_allclose(linear_cka(x, y), biased(x, y), rtol=1e-4, atol=1e-5)
    if hsic(x, x) > 0.1 and hsic(y, y) > 0.1:
        np.testing.assert_allclose(linear_cka(x, y, debiased=True), debiased(x, y), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("form", [False, True])
def test_invariances(form: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 6)), rng.normal(size=(30, 4))
    y[:, :3] += 2 * x[:, :3]
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert linear_cka(x, x, form) == pytest.approx(1, abs=1e-5)
    assert linear_cka(x, 3 * x @ rotation - 5, form) == pytest.approx(1, abs=1e-5)
    found = linear_cka(x, y, form)
    assert 0.2 < found < 0.9
    assert linear_cka(y, x, form) == pytest.approx(found, abs=1e-5)
    assert linear_cka(-7 * x @ rotation + 2, y, form) == pytest.approx(found, abs=1e-4)


@pytest.mark.slow
def test_independent_representations_with_many_features() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 300)), rng.normal(size=(40, 300))
    assert linear_cka(x, y) > 0.8
    assert abs(linear_cka(x, y, debiased=True)) < 0.1
    assert np.isnan(linear_cka(np.ones((5, 2)), x[:5]))


@pytest.mark.slow
def test_stages_of_two_networks() -> None:
    images = np.random.default_rng(2).integers(0, 256, (14, 6, 2)).astype(np.uint8)
    networks = [
        cnnjax.build("convnet", num_classes=3, width=2, depth=depth, kernel_size=3, act=act)
        for depth, act in ((1, "relu"), (2, "tanh"))
    ]
    first, second = (
        Subject(network, drawn_variables(network, images.shape), (127.0, 127.0), (70.0, 50.0)) for network in networks
    )
    key = jax.random.key(3)
    whole = cka(first, second, images, key=key, batch_size=8)
    found = whole.mean
    order = np.asarray(jax.random.permutation(key, 14))
    ones, twos = (
        [np.asarray(o).reshape(14, -1)[order] for o in stage_outputs(s, images).values()] for s in (first, second)
    )
    parts = [(slice(0, 8), 8 * 5), (slice(8, 14), 6 * 3)]

    def streamed(x: np.ndarray, y: np.ndarray) -> float:
        return sum(weight * hsic(x[rows], y[rows]) for rows, weight in parts)

    expected = [[streamed(x, y) / np.sqrt(streamed(x, x) * streamed(y, y)) for y in twos] for x in ones]
    alone = [[[debiased(x[rows], y[rows]) for y in twos] for x in ones] for rows, _ in parts]
    reach = stats.t.ppf(0.975, 1) * np.abs(np.subtract(*alone)) / 2
    np.testing.assert_allclose(whole.interval()[1], found + reach, rtol=1e-3, atol=1e-3)
    assert found.shape == (3, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert found[0, 0] == pytest.approx(1, abs=1e-5)
    # Two of ten images are left over, and left out; one batch is the plain debiased form.
    single = cka(first, second, images[:10], key=key, batch_size=8)
    assert np.isnan(single.interval()).all()
    few = single.mean
    rest = np.asarray(jax.random.permutation(key, 10))[:8]
    np.testing.assert_allclose(few, cka(first, second, images[rest], key=key, batch_size=8).mean, atol=1e-4)
    one, two = (np.asarray(stage_outputs(s, images[rest])["stage1"]).reshape(8, -1) for s in (first, second))
    np.testing.assert_allclose(few[1, 1], debiased(one, two), atol=1e-4)


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="N >= 4"):
        linear_cka(np.zeros((3, 2)), np.zeros((3, 2)), debiased=True)
    with pytest.raises(ValueError, match=r"not \(3, 2\) and \(4, 2\)"):
        linear_cka(np.zeros((3, 2)), np.zeros((4, 2)))
    network = cnnjax.build("logistic", num_classes=3)
    subject = Subject(network, {}, (0.0,), (1.0,))
    for images, size in ((3, 8), (9, 3)):
        with pytest.raises(ValueError, match="at least 4"):
            cka(subject, subject, np.zeros((images, 2, 1)), key=jax.random.key(0), batch_size=size)
