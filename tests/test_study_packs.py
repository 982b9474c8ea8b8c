"""Which runs are trained together, and that the choice is kept."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from cnnjax.config import Config, DataConfig, ModelConfig, RequestError, override
from cnnjax.data.dataset import Dataset
from cnnjax.study import packs
from cnnjax.study.packs import choose_packs, shape_of
from cnnjax.study.workdir import ALONE, Choice, Unit
from cnnjax.train.beginning import feature_bytes
from cnnjax.train.interruption import Interruption
from cnnjax.train.packing import Gain, expected_gain, most_members

CONFIG = Config(model=ModelConfig(name="logistic"), data=DataConfig(name="toy"))
FROZEN = "head/kernel=gaussian,frozen;head/bias=init,trained"


def units(arms: dict[str, Config], seeds: int) -> list[Unit]:
    return [Unit(arm, seed, epath.Path("nowhere")) for seed in range(seeds) for arm in arms]


def chosen(
    arms: dict[str, Config], seeds: int, toy: Dataset, before: dict[str, Choice] | None = None
) -> tuple[list[list[str]], list[Any], dict[str, Choice]]:
    """The names of each pack's runs, their forms, and the choices."""
    found, choices = choose_packs(units(arms, seeds), arms, {CONFIG.data: toy}, before or {}, Interruption())
    names = [[f"{unit.arm}{unit.seed}" for unit in pack.units] for pack in found]
    return names, [pack.form for pack in found], choices


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Gain]:
    """What the backend is said to gain."""
    gains = [Gain(10**3, "vmap", 8.0, 1e-3), Gain(10**9, "vmap", 1.0, 1e-1)]
    monkeypatch.setattr(packs, "measure_gains", lambda interruption: gains)
    monkeypatch.setattr(packs, "measured_once", lambda name, read, measure: read(measure()))
    return gains


def pack(value: Any) -> dict[str, Config]:
    """Two arms of one shape, and a third of another."""
    base = override(CONFIG, {"study.pack": value})
    changes: dict[str, dict[str, Any]] = {"a": {}, "b": {"optim.lr": 0.5}, "c": {"filters": FROZEN}}
    return {arm: override(base, change) for arm, change in changes.items()}


def test_one_trains_each_alone_in_the_order_of_the_study(toy: Dataset, measured: list[Gain]) -> None:
    names, forms, choices = chosen(pack(1), 2, toy)
    assert names == [["a0"], ["b0"], ["c0"], ["a1"], ["b1"], ["c1"]]
    assert forms == [None] * 6
    assert set(choices.values()) == {ALONE}


def test_a_number_packs_so_many_of_a_shape_across_arms_and_seeds(toy: Dataset, measured: list[Gain]) -> None:
    names, forms, _ = chosen(pack(4), 3, toy)
    assert names == [["a0", "b0", "a1"], ["c0", "c1", "c2"], ["b1", "a2", "b2"]]
    assert forms == ["vmap"] * 3


def test_auto_packs_what_gains(toy: Dataset, measured: list[Gain]) -> None:
    names, _, choices = chosen(pack("auto"), 2, toy)
    assert names == [["a0", "b0", "a1", "b1"], ["c0", "c1"]]
    assert sorted(choice.members for choice in choices.values()) == [2, 4]


def test_auto_packs_nothing_that_does_not_gain(toy: Dataset, measured: list[Gain]) -> None:
    measured[:] = [Gain(10**3, "map", 1.05, 1e-3)]
    assert all(len(names) == 1 for names in chosen(pack("auto"), 2, toy)[0])


def test_what_was_chosen_before_is_kept_and_its_program_too(toy: Dataset, measured: list[Gain]) -> None:
    arms = pack("auto")
    _, _, before = chosen(arms, 2, toy)
    measured[:] = [Gain(10**3, "map", 0.5, 1e-3)]
    assert chosen(arms, 2, toy, before)[2] == before
    left = [unit for unit in units(arms, 2) if unit.arm == "a"]
    (resumed,), _ = choose_packs(left, arms, {CONFIG.data: toy}, before, Interruption())
    assert (len(resumed.units), resumed.slots, resumed.form) == (2, 4, "vmap")


def test_packs_grow_with_the_runs_until_one_has_begun(toy: Dataset, measured: list[Gain], tmp_path: Path) -> None:
    arms = {"a": override(CONFIG, {"study.pack": "auto"})}
    _, _, before = chosen(arms, 2, toy)
    assert [len(names) for names in chosen(arms, 6, toy, before)[0]] == [6]
    assert chosen(arms, 1, toy, chosen(arms, 6, toy, before)[2])[2] != before

    begun = [Unit("a", seed, epath.Path(tmp_path) / str(seed)) for seed in range(6)]
    begun[3].folder.mkdir()
    (begun[3].folder / "status.json").write_text('{"state": "running"}')
    found, kept = choose_packs(begun, arms, {CONFIG.data: toy}, before, Interruption())
    assert [len(each.units) for each in found] == [2, 2, 2] and kept == before


def test_arm_that_takes_filters_from_another_comes_behind_it_and_not_beside(toy: Dataset, measured: list[Gain]) -> None:
    base = override(CONFIG, {"study.pack": 8})
    arms = {"first": base, "taken": override(base, {"filters": ".*=arm:first,trained"})}
    assert shape_of(arms["first"]) == shape_of(arms["taken"])
    assert chosen(arms, 2, toy)[0] == [["first0", "first1"], ["taken0", "taken1"]]


def test_heads_in_closed_form_are_run_alone(toy: Dataset, measured: list[Gain]) -> None:
    arms = {"ridge": override(CONFIG, {"head.name": "ridge", "filters": FROZEN, "study.pack": 4})}
    assert chosen(arms, 2, toy)[0] == [["ridge0"], ["ridge1"]]


def test_expected_gain_lies_between_the_measured_ones(measured: list[Gain]) -> None:
    assert expected_gain(measured, 10**6) == ("vmap", pytest.approx(4.5))
    assert expected_gain(measured, 1)[1] == 8.0
    assert expected_gain([Gain(10**3, "vmap", 8.0, 1e-3), Gain(10**9, "vmap", 3.0, 1e-1)], 10**10)[1] == 1.0


def test_as_many_as_memory_holds(toy: Dataset) -> None:
    # Of `logistic` on 36 pixels: 111 variables of 4 bytes, eight times; 84 examples of 36 pixels.
    examples, kept = 4 * 36 * 84, 8 * 4 * 111
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, batch_size=1))
    members = {form: most_members(config, toy.summary, form, 2 * (examples + 100 * kept)) for form in ("map", "vmap")}
    assert 90 <= members["map"] < 100
    assert 1 < members["vmap"] < members["map"]
    assert most_members(config, toy.summary, "vmap", 0) == 1


def test_each_member_may_have_features_of_its_own(toy: Dataset) -> None:
    model = dataclasses.replace(CONFIG.model, name="convnet", width=2, depth=1, kernel_size=3)
    plan = "stage1/.*=gaussian,frozen;head/.*=init,trained"
    config = override(dataclasses.replace(CONFIG, model=model), {"filters": plan})
    features = 4 * 84 * 3 * 3 * 2  # of two maps of 3 x 3
    assert feature_bytes(config, toy.summary) == features
    assert most_members(config, toy.summary, "map", 2 * 50 * features) < 50


@pytest.mark.parametrize("value", ["0", "-1", "all", "1.5"])
def test_wrong_pack(value: str) -> None:
    with pytest.raises(RequestError, match=r"config.study.pack: should be auto or a number greater than 0; given '"):
        override(CONFIG, {"study.pack": value})
