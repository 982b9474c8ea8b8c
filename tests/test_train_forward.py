"""Precision, what is kept for the gradient, and batches computed in parts, against the plain forms."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import Config, DataConfig, ModelConfig, OptimConfig, RequestError, TrainConfig, override
from cnnjax.data.dataset import Dataset
from cnnjax.models.registry import build
from cnnjax.train.assembly import Assembly, assemble, assemble_alone, assemble_together, make_member
from cnnjax.train.beginning import Shared
from cnnjax.train.forward import logits_in_evaluation, logits_in_training
from cnnjax.train.interruption import Interruption
from cnnjax.train.program import compiler_options
from cnnjax.train.setup import check_devices
from tests.test_train_program import host, train
from tests.variables import drawn_variables

MODEL = build("convnet", num_classes=3, width=4, depth=2, kernel_size=3, norm="batch", dropout=0.5)
VARIABLES = drawn_variables(MODEL, (1, 8, 8, 1))
X = np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype(np.float32)
KEY = jax.random.key(0)

CONFIG = Config(
    model=ModelConfig(name="convnet", width=2, depth=1, kernel_size=3),
    data=DataConfig(augment=("shift",), max_shift=1),
    optim=OptimConfig(lr=0.05),
    train=TrainConfig(epochs=1, batch_size=8, eval_batch_size=8),
)


@functools.partial(jax.jit, static_argnames=("precision", "remat", "after"))
def forward(precision: Any = "float32", *, remat: bool = False, after: str | None = None, x: Any = X) -> Any:
    return logits_in_training(MODEL, VARIABLES, x, after, KEY, precision=precision, remat=remat)


def trained(toy: Dataset, **changes: Any) -> tuple[Assembly, Any]:
    """The run of a changed config, and its state after an epoch."""
    run = assemble(override(CONFIG, {f"train.{name}": value for name, value in changes.items()}), toy, 0, *fresh())
    return run, train(run, [6])


def fresh() -> tuple[Shared, Interruption]:
    return Shared(), Interruption()


def test_remat_computes_the_same_and_keeps_less() -> None:
    def loss(params: Any, remat: bool) -> Any:
        variables = {**VARIABLES, "params": params}
        return logits_in_training(MODEL, variables, X, None, KEY, precision="float32", remat=remat)[0].sum()

    def kept(remat: bool) -> int:
        pull = jax.eval_shape(lambda params: jax.vjp(lambda p: loss(p, remat), params)[1], VARIABLES["params"])
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull))

    plain, again = (jax.jit(jax.value_and_grad(loss), static_argnums=1)(VARIABLES["params"], r) for r in (False, True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, again)
    assert kept(True) < 0.6 * kept(False)


def assert_same(left: Any, right: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), left, right)


def test_remat_goes_on_from_a_stage() -> None:
    x = np.asarray(MODEL.apply(VARIABLES, X, until="stage1"))
    logits, left = forward(remat=True, after="stage1", x=x)
    plain, moved = forward(after="stage1", x=x)
    assert_same(logits, plain)
    assert_same(left["batch_stats"]["stage2"], moved["batch_stats"]["stage2"])
    assert "stage1" not in left["batch_stats"]


def test_bfloat16_rounds_activations_and_nothing_that_is_kept() -> None:
    logits, left = forward("bfloat16")
    exact, expected = forward()
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(left)} == {jnp.dtype("float32")}
    error = np.abs(logits - exact).max() / np.abs(exact).max()
    assert 1e-5 < error < 0.05
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.05, atol=0.05), left, expected)
    evaluated = logits_in_evaluation(MODEL, VARIABLES, X, None, "bfloat16")
    plain = logits_in_evaluation(MODEL, VARIABLES, X, None, "float32")
    assert evaluated.dtype == jnp.float32
    assert 1e-5 < np.abs(evaluated - plain).max() / np.abs(plain).max() < 0.05


@pytest.mark.slow
def test_run_in_bfloat16_keeps_its_state_in_float32(toy: Dataset) -> None:
    run, state = trained(toy, precision="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves((state.trained, state.stats))} == {np.dtype("float32")}
    exact = trained(toy)[1]
    moved = {path: np.abs(exact.trained[path] - host(run.state).trained[path]).max() for path in exact.trained}
    for path, value in state.trained.items():
        assert 0 < np.abs(value - exact.trained[path]).max() < 0.2 * moved[path]


def test_batch_in_parts_takes_the_same_step(toy: Dataset) -> None:
    whole, parts = trained(toy)[1], trained(toy, accumulate=4)[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole, parts)


@pytest.mark.slow
def test_deterministic_run_is_the_same_on_a_cpu(toy: Dataset) -> None:
    assert_same(trained(toy)[1], trained(toy, deterministic=True)[1])


def test_deterministic_run_tells_the_compiler(toy: Dataset) -> None:
    for asked, told in ((False, None), (True, {"xla_gpu_deterministic_ops": True})):
        config = override(CONFIG, {"train.deterministic": asked})
        member = make_member(config, toy, 0, Shared(), Interruption())
        assert compiler_options(member.task) == told


def test_state_that_is_stepped_is_given_away(toy: Dataset) -> None:
    shared = Shared()
    alone = assemble_alone(make_member(CONFIG, toy, 0, shared, Interruption()), shared)
    members = [make_member(CONFIG, toy, seed, shared, Interruption(), axis=None) for seed in range(2)]
    for run in (alone, assemble_together(members, "map", shared)):
        run.program.train(run.state, run.inputs, [1] * len(run.members))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(run.state.trained))


def test_parts_that_do_not_divide_the_batch(toy: Dataset) -> None:
    config = override(CONFIG, {"train.accumulate": 3})
    with pytest.raises(RequestError, match="1 devices of 3 parts do not divide a batch of 8; 6 or 9 would do"):
        check_devices(config, toy.summary)
