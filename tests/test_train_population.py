"""Runs trained together against the same runs one by one."""

import signal
from typing import Any

import jax
import numpy as np
import pytest

from cnnjax.config import Config, DataConfig, FilterRule, ModelConfig, OptimConfig, TrainConfig, override
from cnnjax.data.dataset import Dataset
from cnnjax.train.assembly import Assembly, assemble, assemble_together, make_member
from cnnjax.train.beginning import Shared
from cnnjax.train.interruption import Interruption, Stopped
from cnnjax.train.loop import Listeners, evaluate, fit
from cnnjax.train.population import Form, Slots
from cnnjax.train.state import TrainState

BASE = Config(
    model=ModelConfig(name="convnet", width=2, depth=2, kernel_size=3, pool="none", norm="batch", dropout=0.3),
    data=DataConfig(augment=("shift", "noise"), max_shift=1),
    filters=(FilterRule("(stage1|head)/.*"), FilterRule("stage2/.*", "gaussian", "frozen")),
    optim=OptimConfig(name="sgd", lr=0.1, weight_decay=0.1, schedule="step", step_at=(0.5,)),
    train=TrainConfig(epochs=2, batch_size=8, eval_batch_size=8),
)
# Each differs from the others in its seed, and in numbers; the second ends before the others and diverges in no wise.
MEMBERS = [
    override(BASE, changes)
    for changes in (
        {},
        {"train.epochs": 1.2, "optim.lr": 0.02, "model.dropout": 0.6},
        {"optim.weight_decay": 0.01, "optim.momentum": 0.5, "optim.warmup": 0.2, "data.strength": 0.4},
    )
]
FORMS: tuple[Form, ...] = ("map", "vmap")
WILD = override(BASE, {"optim.lr": 1e30})

Told = dict[str, list[Any]]


def host(tree: Any) -> Any:
    return jax.tree.map(np.array, jax.device_get(tree))


def listening(told: Told, interruption: Interruption | None = None) -> Listeners:
    """Listeners that keep what they are told, and ask to stop after a dispatch if there is an interruption."""

    def on_progress(steps: Any, seconds: float) -> None:
        if interruption:
            interruption.receive(signal.SIGTERM)

    return Listeners(
        on_evaluated=None,
        on_report=lambda n, step, report: told["reports"].append((n, step, report.validation.metrics())),
        on_diverged=lambda n, reason: told["diverged"].append((n, reason)),
        on_save=lambda n, step, state: told["saves"].append((n, step, host(state))),
        on_progress=on_progress,
    )


def blank() -> Told:
    return {"reports": [], "diverged": [], "saves": []}


def train(run: Assembly, told: Told, states: list[TrainState] | None = None) -> list[TrainState]:
    """Each member's state at the end, from its start or from other states."""
    starts = states or [member.state for member in run.members]
    joined = run.program.join(starts)
    steps = [int(state.step) for state in starts]
    ended = fit(run.program, joined, steps, run.inputs, run.plans, listening(told), Interruption())
    return [host(state) for state in run.program.split(ended)]


def together(configs: list[Config], data: Dataset, form: Form, shared: Shared, slots: int = 0) -> Assembly:
    members = [make_member(c, data, seed, shared, Interruption(), axis=None) for seed, c in enumerate(configs)]
    return assemble_together(members, form, shared, slots)


@pytest.fixture(scope="module")
def shared() -> Shared:
    return Shared()


@pytest.fixture(scope="module")
def alone(toy: Dataset, shared: Shared) -> list[tuple[TrainState, Told]]:
    """Each member by itself."""
    found = []
    for seed, config in enumerate(MEMBERS):
        told = blank()
        (state,) = train(assemble(config, toy, seed, shared, Interruption()), told)
        found.append((state, told))
    return found


@pytest.fixture(scope="module", params=FORMS)
def packed(request: pytest.FixtureRequest, toy: Dataset, shared: Shared) -> Assembly:
    return together(MEMBERS, toy, request.param, shared)


def assert_close(left: Any, right: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), left, right)


def assert_identical(left: Any, right: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_each_member_is_its_lone_run(packed: Assembly, alone: list[tuple[TrainState, Told]]) -> None:
    told = blank()
    states = train(packed, told)
    assert [int(state.step) for state in states] == [12, 7, 12]
    for n, (state, (lone, lone_told)) in enumerate(zip(states, alone, strict=True)):
        assert_close(state._replace(sums=0), lone._replace(sums=0))
        reports = [(step, metrics) for member, step, metrics in told["reports"] if member == n]
        assert [step for step, _ in reports] == [step for _, step, _ in lone_told["reports"]]
        assert_close([metrics for _, metrics in reports], [metrics for *_, metrics in lone_told["reports"]])
        assert [step for member, step, _ in told["saves"] if member == n] == [int(lone.step)]
    assert told["diverged"] == []


def test_members_differ(alone: list[tuple[TrainState, Told]]) -> None:
    kernels = [state.trained["head/layer/kernel"] for state, _ in alone]
    assert len({kernel.tobytes() for kernel in kernels}) == len(MEMBERS)


def test_stopped_after_every_dispatch_ends_bit_identical(packed: Assembly) -> None:
    untouched, states = train(packed, blank()), [host(member.state) for member in packed.members]
    for _ in range(100):
        told, interruption = blank(), Interruption()
        steps = [int(state.step) for state in states]
        joined = packed.program.join(states)
        try:
            listeners = listening(told, interruption)
            fit(packed.program, joined, steps, packed.inputs, packed.plans, listeners, interruption)
            break
        except Stopped:
            states = [state for _, _, state in told["saves"]]
    assert_identical(train(packed, blank(), states), untouched)


def test_members_at_different_steps_go_on_to_the_same_end(packed: Assembly) -> None:
    # A kill between the saves of two members leaves one behind the other.
    untouched = train(packed, blank())
    joined = packed.program.join([member.state for member in packed.members])
    behind = packed.program.split(packed.program.train(joined, packed.inputs, [5, 2, 0]))
    assert [int(state.step) for state in behind] == [5, 2, 0]
    assert_identical(train(packed, blank(), [host(state) for state in behind]), untouched)


@pytest.mark.parametrize("form", ["map", pytest.param("vmap", marks=pytest.mark.slow)])
def test_member_that_diverges_disturbs_no_other(form: Form, toy: Dataset, shared: Shared) -> None:
    told, calm = blank(), blank()
    states = train(together([MEMBERS[0], WILD, MEMBERS[2]], toy, form, shared), told)
    expected = train(together(MEMBERS, toy, form, shared), calm)
    assert [n for n, _ in told["diverged"]] == [1]
    assert "at step 6" in told["diverged"][0][1]
    assert {n for n, _, _ in told["saves"]} == {0, 2}
    for n in (0, 2):
        assert_identical(states[n], expected[n])


@pytest.mark.slow
def test_idle_slots_change_nothing(toy: Dataset, shared: Shared) -> None:
    expected = train(together(MEMBERS, toy, "map", shared), blank())
    assert_identical(train(together(MEMBERS, toy, "map", shared, slots=5), blank()), expected)


def test_each_member_is_evaluated_on_every_example_once(packed: Assembly) -> None:
    inputs, plan = packed.inputs, packed.plans[0]
    state = packed.program.join([member.state for member in packed.members])
    params, stats = {**inputs.frozen[0], **state.trained}, {**inputs.frozen[1], **state.stats}
    sums = evaluate(packed.program, 3, params, stats, inputs.held_out, plan.test, plan, Interruption())
    found = packed.program.split(sums)
    assert [int(each.examples) for each in found] == [13, 13, 13]
    assert len({float(each.loss) for each in found}) == 3


@pytest.mark.slow
def test_members_with_features_of_their_own_read_their_own(toy: Dataset, shared: Shared) -> None:
    config = override(BASE, {"data.augment": (), "filters": "stage.*=gaussian,frozen;head/.*=init,trained"})
    run = together([config, config], toy, "map", shared)
    assert all(member.from_features for member in run.members)
    states = train(run, blank())
    for seed in (0, 1):
        (lone,) = train(assemble(config, toy, seed, shared, Interruption()), blank())
        assert_close(states[seed].trained, lone.trained)


@pytest.mark.parametrize(("members", "slots", "devices", "of_device"), [(3, 0, 1, 3), (3, 5, 1, 5), (3, 0, 2, 2)])
def test_slots(members: int, slots: int, devices: int, of_device: int) -> None:
    assert Slots(members, slots, devices).of_device == of_device


def test_what_is_joined_is_split_again() -> None:
    trees = [{"a": np.full((2, 3), float(n)), "b": np.int32(n)} for n in range(3)]
    slots = Slots(3, 4, 1)
    joined = slots.join(trees)
    assert joined["a"].shape == (1, 4, 2, 3)
    assert_identical(slots.split(joined), trees)
