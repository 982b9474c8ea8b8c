"""The compiled steps against NumPy, and against themselves in other portions."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from cnnjax.config import Config, DataConfig, FilterRule, ModelConfig, OptimConfig, TrainConfig, override
from cnnjax.data.augmentation import Augmentation, augment
from cnnjax.data.dataset import Dataset
from cnnjax.data.feed import epoch_order, standardise
from cnnjax.ops.keys import stream_key
from cnnjax.train import program
from cnnjax.train.assembly import Assembly, assemble, best_variables
from cnnjax.train.beginning import Shared
from cnnjax.train.devices import replicate, spread
from cnnjax.train.interruption import Interruption
from cnnjax.train.loop import evaluate
from cnnjax.train.setup import build_model
from cnnjax.train.state import Sums, TrainState
from cnnjax.train.step import Keys, Task, variables_of


def host(tree: Any) -> Any:
    """A copy of the arrays in NumPy."""
    return jax.tree.map(np.array, jax.device_get(tree))


def train(run: Assembly, chunks: list[int], keys: Keys | None = None) -> TrainState:
    """The state after chunks of so many steps, from the run's first on."""
    state, inputs = replicate(host(run.state)), run.inputs._replace(keys=keys or run.inputs.keys)
    for steps in chunks:
        state = run.program.train(state, inputs, [steps])
    return host(state)


def assert_identical(left: Any, right: Any) -> None:
    """Bit for bit."""
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()


def differ(left: Any, right: Any) -> bool:
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return any(not np.array_equal(a, b) for a, b in pairs)


FULL = Config(
    model=ModelConfig(name="convnet", width=2, depth=2, kernel_size=3, pool="none", norm="batch", dropout=0.3),
    data=DataConfig(augment=("shift", "noise"), max_shift=1),
    filters=(FilterRule("(stage1|head)/.*"), FilterRule("stage2/.*", "gaussian", "frozen")),
    optim=OptimConfig(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.1),
    train=TrainConfig(epochs=13 / 6, batch_size=8, eval_batch_size=8),
)


@pytest.fixture(scope="module")
def full(toy: Dataset) -> Assembly:
    """Batch norm, dropout, augmentation and weight decay; the second of two stages is frozen."""
    return assemble(FULL, toy, 0, Shared(), Interruption())


def logits_of(images: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Of logistic regression on `toy`."""
    return (images.reshape(len(images), -1).astype(np.float64) - 120) / 60 @ kernel + bias


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def test_steps_are_those_of_logistic_regression_in_numpy(linear: Assembly, toy: Dataset) -> None:
    kernel, bias = (np.array(linear.state.trained[f"head/{name}"], np.float64) for name in ("kernel", "bias"))
    velocity = [np.zeros_like(kernel), np.zeros_like(bias)]
    loss, correct = 0.0, 0
    for step in range(13):
        order = np.asarray(epoch_order(stream_key(0, "order"), step // 6, 50))
        index = order[step % 6 * 8 :][:8]
        images, labels = toy.train.images[index], toy.train.labels[index]
        scores = log_softmax(logits_of(images, kernel, bias))
        loss -= scores[np.arange(8), labels].sum()
        correct += int((scores.argmax(1) == labels).sum())
        error = (np.exp(scores) - np.eye(3)[labels]) / 8
        gradient = [((images.reshape(8, -1) - 120.0) / 60).T @ error + 0.01 * kernel, error.sum(0)]
        velocity = [0.9 * v + g for v, g in zip(velocity, gradient, strict=True)]
        rate = 0.1 * (1 + np.cos(np.pi * step / 13)) / 2
        kernel, bias = kernel - rate * velocity[0], bias - rate * velocity[1]
    state = train(linear, [13])
    assert int(state.step) == 13
    np.testing.assert_allclose(state.trained["head/kernel"], kernel, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(state.trained["head/bias"], bias, rtol=1e-3, atol=1e-5)
    assert (int(state.sums.correct), int(state.sums.examples)) == (correct, 13 * 8)
    assert float(state.sums.loss) == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("chunks", [[1] * 13, [5, 8]])
def test_length_of_the_chunks_changes_nothing(full: Assembly, chunks: list[int]) -> None:
    assert_identical(train(full, [13]), train(full, chunks))


def test_no_steps_change_nothing(full: Assembly) -> None:
    assert_identical(train(full, [0]), host(full.state))


def test_frozen_stays_and_the_rest_moves(full: Assembly) -> None:
    start, frozen = host(full.state), host(full.inputs.frozen)
    state = replicate(train(full, [13]))
    all_right = replicate(Sums(np.float32(1), np.int32(21), np.int32(21)))
    state, _ = full.program.settle(state, all_right, [True])
    best = host(best_variables(state, full.inputs.frozen))
    names = {"conv/kernel", "norm/scale", "norm/bias"}
    assert set(frozen[0]) == {f"stage2/{name}" for name in names}
    assert set(frozen[1]) == {"stage2/norm/mean", "stage2/norm/var"}
    assert_identical({path: best["params"][path] for path in frozen[0]}, frozen[0])
    assert_identical({path: best["batch_stats"][path] for path in frozen[1]}, frozen[1])
    assert {path.split("/")[0] for path in start.trained} == {"stage1", "head"}
    assert set(start.stats) == {"stage1/norm/mean", "stage1/norm/var"}
    for path, array in {**start.trained, **start.stats}.items():
        assert differ(array, {**best["params"], **best["batch_stats"]}[path]), path


def test_frozen_has_no_optimiser_state(full: Assembly) -> None:
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(full.state.optimiser)]
    assert any("stage1/conv/kernel" in path for path in paths)
    assert not any("stage2" in path for path in paths)


COSTLY = Config(
    model=ModelConfig(name="convnet", width=16, depth=2, kernel_size=3, pool="none"),
    data=DataConfig(augment=("shift",), max_shift=1),  # so that no features are cached
    optim=OptimConfig(name="adam"),
    train=TrainConfig(batch_size=8, eval_batch_size=8),
)


def cost(plan: str, toy: Dataset, monkeypatch: pytest.MonkeyPatch) -> tuple[float, int, int]:
    """Operations of the compiled step, and how many numbers are trained and how many the optimiser keeps."""
    operations: list[float] = []

    def analyse(task: Task, function: Callable[..., Any], shard: jax.Array, state: Any, inputs: Any) -> Any:
        if function.__name__ != "train_here":
            return None
        compiled = spread(function).lower(shard, state, inputs).compile()
        operations.append(compiled.cost_analysis()["flops"])  # its loop over steps counts once
        return compiled

    monkeypatch.setattr(program, "_compile", analyse)
    jax.config.update("jax_disable_most_optimizations", True)  # of machine code, which is not run here
    state = assemble(override(COSTLY, {"filters": plan}), toy, 0, Shared(), Interruption()).state
    jax.config.update("jax_disable_most_optimizations", False)
    trained, kept = (sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (state.trained, state.optimiser))
    return operations[0], trained, kept


def test_frozen_costs_no_gradient_and_no_optimiser_memory(toy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    # Operations of the forward pass, batch of 8, two for each multiplication: both convolutions, and the head.
    first, second, head = (2 * 8 * 36 * inputs * outputs for inputs, outputs in ((9, 16), (9 * 16, 32), (32, 3)))
    forward = first + second + head
    learned, learned_numbers, learned_kept = cost(".*=he,trained", toy, monkeypatch)
    assert learned > 2 * first + 3 * (second + head)  # no gradient of the images
    # A frozen prefix runs forwards alone.
    frozen, numbers, kept = cost("stage.*=he,frozen;head/.*=init,trained", toy, monkeypatch)
    assert forward + head < frozen < 1.15 * (forward + 2 * head)
    assert (numbers, kept) == (36 * 32 * 3 + 3, 2 * numbers + 2)
    # A frozen stage behind one that is trained passes the gradient on, and has none itself.
    behind, numbers, kept = cost("stage2/.*=he,frozen;(stage1|head)/.*=init,trained", toy, monkeypatch)
    assert learned - behind > 0.95 * second
    assert (learned_numbers - numbers, kept) == (9 * 16 * 32 + 32, 2 * numbers + 2)
    assert learned_kept == 2 * learned_numbers + 2


@pytest.mark.parametrize("stream", Keys._fields)
def test_every_stream_of_randomness_is_used(full: Assembly, stream: str) -> None:
    other = full.inputs.keys._replace(**{stream: replicate(stream_key(1, stream))})
    assert differ(train(full, [1]).trained, train(full, [1], other).trained)


def test_randomness_depends_on_the_step(full: Assembly) -> None:
    # The examples lie so that the first step of both epochs takes the same ones in the same order.
    losses = []
    for epoch in (0, 1):
        state = host(full.state)._replace(step=np.int32(6 * epoch))
        place = np.argsort(epoch_order(full.inputs.keys.order, epoch, 50))
        feed = replicate(jax.tree.map(lambda a, place=place: a[place], host(full.inputs.train)))
        after = full.program.train(replicate(state), full.inputs._replace(train=feed), [1])
        losses.append(float(after.sums.loss))
    assert losses[0] != losses[1]


def test_frozen_stage_runs_as_in_evaluation(full: Assembly, toy: Dataset) -> None:
    start, keys = full.state, full.inputs.keys
    order = np.asarray(epoch_order(keys.order, 0, 50))[:8]
    variables = variables_of(*({**frozen, **rest} for frozen, rest in zip(full.inputs.frozen, start[1:3], strict=True)))
    model = build_model(FULL.model, toy.summary)
    change = Augmentation(FULL.data.augment, max_shift=1)

    @jax.jit
    def logits() -> jax.Array:
        images = augment(toy.train.images[order], jax.random.fold_in(keys.augment, 0), np.arange(8), change)
        x = standardise(images, (120.0,), (60.0,))
        x, _ = model.apply(variables, x, until="stage1", train=True, mutable=["batch_stats"])
        x = model.apply(variables, x, after="stage1", until="stage2")
        dropout = {"dropout": jax.random.fold_in(keys.dropout, 0)}
        return model.apply(variables, x, after="stage2", train=True, rngs=dropout)

    scores, labels = log_softmax(np.asarray(logits())), toy.train.labels[order]
    sums = train(full, [1]).sums
    assert float(sums.loss) == pytest.approx(-scores[np.arange(8), labels].sum(), rel=1e-4)
    assert int(sums.correct) == int((scores.argmax(1) == labels).sum())


@pytest.mark.parametrize(("first", "end"), [(0, 21), (0, 1), (3, 10), (0, 8), (21, 34), (33, 34)])
def test_evaluation_counts_every_example_once(linear: Assembly, toy: Dataset, first: int, end: int) -> None:
    held_out = [np.concatenate([getattr(s, part) for s in (toy.validation, toy.test)]) for part in ("images", "labels")]
    images, labels = (part[first:end] for part in held_out)
    params = {path: np.array(a, np.float64) for path, a in host(linear.state.trained).items()}
    scores = log_softmax(logits_of(images, params["head/kernel"], params["head/bias"]))
    sums = evaluate(
        linear.program,
        1,
        linear.state.trained,
        {},
        linear.inputs.held_out,
        (first, end),
        linear.plans[0],
        Interruption(),
    )
    assert sums is not None
    assert int(sums.examples) == end - first
    assert int(sums.correct) == int((scores.argmax(1) == labels).sum())
    assert float(sums.loss) == pytest.approx(-scores[np.arange(end - first), labels].sum(), rel=1e-4)


def test_evaluation_takes_any_number_of_batches_at_a_time(linear: Assembly) -> None:
    def run(portions: list[int]) -> Sums:
        sums, first = replicate(Sums.zero()), 0
        for batches in portions:
            sums = linear.program.evaluate(sums, linear.state.trained, {}, linear.inputs.held_out, first, 34, batches)
            first += 8 * batches
        return host(sums)

    assert int(run([5]).examples) == 34
    assert_identical(run([5]), run([1, 3, 1]))


def test_settle_keeps_the_first_of_the_best(linear: Assembly) -> None:
    def settle(state: TrainState, correct: int) -> TrainState:
        sums = Sums(np.float32(1), np.int32(correct), np.int32(21))
        state, report = linear.program.settle(replicate(state), replicate(sums), [True])
        assert int(report.validation.correct) == correct
        assert int(report.best_step) == int(state.best.step)
        return host(state)

    state, seen = host(linear.state), {}
    for step, correct in ((3, 10), (6, 12), (9, 12), (12, 11)):
        moved = {path: a + step for path, a in host(linear.state).trained.items()}
        state = settle(state._replace(step=np.int32(step), trained=moved), correct)
        seen[step] = (int(state.best.correct), int(state.best.step))
        assert_identical(state.trained, moved)
        assert int(state.sums.examples) == 0
    assert seen == {3: (10, 3), 6: (12, 6), 9: (12, 6), 12: (12, 6)}
    assert_identical(state.best.trained, {path: a + 6 for path, a in host(linear.state).trained.items()})


def test_it_learns(linear: Assembly, toy: Dataset) -> None:
    state = replicate(train(linear, [13]))
    sums = evaluate(
        linear.program, 1, state.trained, {}, linear.inputs.held_out, (0, 21), linear.plans[0], Interruption()
    )
    majority = np.bincount(toy.validation.labels).max() / 21
    assert sums is not None
    assert sums.metrics()["accuracy"] > majority
    assert sums.metrics()["loss"] < np.log(3)
