"""The trials of a sweep: what they are called, what they change, and how a study keeps them."""

import dataclasses
import json
import re

import pytest

from cnnjax.config import Config, FilterRule, ModelConfig, RequestError
from cnnjax.study.sweep.spec import parse_sweep
from cnnjax.study.sweep.trials import (
    Sweep,
    Trial,
    go_on,
    plan_sweep,
    sweep_from_dict,
    sweep_to_dict,
    trial_name,
)

ARMS = {"learned": Config(), "frozen": Config(model=ModelConfig(name="lenet5"))}


def planned(*specs: str, search: str = "grid", count: int | None = None) -> Sweep:
    return plan_sweep(Sweep(specs, search, count, ARMS))


@pytest.mark.parametrize(
    ("specs", "point", "name"),
    [
        (["optim.lr=0.1", "model.width=16"], {"optim.lr": "0.1", "model.width": "16"}, "learned,lr=0.1,width=16"),
        (["model.name=gru", "optim.name=sgd"], None, "learned,model.name=gru,optim.name=sgd"),
        (["optim.lr=log:1e-3:1"], {"optim.lr": 0.01235}, "learned,lr=0.01235"),
        (["data.dir=/mnt/a,/mnt/b"], {"data.dir": "/mnt/b"}, "learned,dir=#2"),
        (['data.augment=["shift,flip"]'], None, "learned,augment=#1"),
        ([f"data.dir={'a' * 24},{'a' * 25}"], {"data.dir": "a" * 24}, f"learned,dir={'a' * 24}"),
        ([f"data.dir={'a' * 24},{'a' * 25}"], {"data.dir": "a" * 25}, "learned,dir=#2"),
    ],
)
def test_name(specs: list[str], point: dict[str, str | float] | None, name: str) -> None:
    dimensions = parse_sweep(specs, ARMS)["learned"]
    assert trial_name("learned", dimensions, point or {d.field: d.values.at(0) for d in dimensions}) == name
    assert not re.search(r"[/\\\0]", name)


def test_trials_are_arms_in_the_place_of_the_swept_one() -> None:
    sweep = planned("learned/optim.lr=0.1,0.2", "learned/model.width=16")
    assert list(sweep.trials) == sweep.of_arm("learned") == ["learned,lr=0.1,width=16", "learned,lr=0.2,width=16"]
    assert sweep.of_arm("frozen") == []
    arms = sweep.arms
    assert list(arms) == ["frozen", *sweep.trials] and arms["frozen"] == ARMS["frozen"]
    second = arms["learned,lr=0.2,width=16"]
    assert (second.optim.lr, second.model.width) == (0.2, 16)
    assert dataclasses.replace(second, optim=Config().optim, model=Config().model) == Config()


@pytest.mark.parametrize(("search", "count", "trials"), [("random", 5, 5), ("sobol", 5, 5), ("halving", 5, 5)])
def test_arms_of_the_same_fields_have_the_same_points(search: str, count: int, trials: int) -> None:
    sweep = planned("optim.lr=log:1e-3:1", search=search, count=count)
    points = {arm: [sweep.trials[name].point for name in sweep.of_arm(arm)] for arm in ARMS}
    assert len(points["learned"]) == trials and points["learned"] == points["frozen"]


def test_halving_without_a_number_is_over_the_grid() -> None:
    assert len(planned("optim.lr=log:1e-3:1:9", search="halving").of_arm("learned")) == 9


def test_trials_that_are_asked_for_later() -> None:
    sweep = planned("optim.lr=log:1e-3:1", search="tpe", count=3)
    assert sweep.trials == {} and sweep.arms == ARMS
    more = sweep.with_trials("learned", [{"optim.lr": 0.5}]).with_trials("learned", [{"optim.lr": 0.25}])
    assert more.trials == {f"learned,lr={lr}": Trial("learned", {"optim.lr": lr}) for lr in (0.5, 0.25)}
    assert list(more.arms) == ["learned,lr=0.5", "learned,lr=0.25"]


def test_range_has_no_grid() -> None:
    with pytest.raises(
        RequestError, match=r"--sweep: optim.lr is a range: .*, or how many --trials are drawn at random"
    ):
        planned("optim.lr=log:1e-3:1")


@pytest.mark.parametrize("specs", [["optim.lr=1,2"], ["learned/optim.lr=1,2"]])
def test_filters_of_an_arm_that_is_swept(specs: list[str]) -> None:
    arms = {"learned": Config(), "taker": Config(filters=(FilterRule(".*", "arm:learned"),))}
    with pytest.raises(
        RequestError, match=r"--sweep: taker takes filters from learned, which is swept; sweep the other"
    ):
        plan_sweep(Sweep(tuple(specs), "grid", None, arms))
    assert len(plan_sweep(Sweep(("taker/optim.lr=1,2",), "grid", None, arms)).arms) == 3


def test_sweep_is_kept_as_json() -> None:
    sweep = planned("optim.lr=log:1e-3:1", "model.width=int:1:64", "data.name=mnist_5k", search="sobol", count=4)
    sweep = dataclasses.replace(sweep, complete=True, owner="me")
    assert sweep_from_dict(json.loads(json.dumps(sweep_to_dict(sweep)))) == sweep


def test_going_on_takes_the_trials_that_are_there() -> None:
    asked = planned("optim.lr=log:1e-3:1", search="tpe", count=3)
    before = dataclasses.replace(asked.with_trials("learned", [{"optim.lr": 0.5}]), owner="")
    found = go_on(before, asked, "w")
    assert found is not None and found.trials == before.trials
    assert go_on(None, None, "w") is None
    written_otherwise = dataclasses.replace(asked, specs=("optim.lr=log:0.001:1.0",))
    assert go_on(before, written_otherwise, "w") is not None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            None,
            "--workdir: w holds a sweep; give its flags again (--sweep=optim.lr=1,2 --search=grid), or another folder",
        ),
        (("optim.lr=1,3", "grid", None), "--workdir: w holds another sweep (--sweep=optim.lr=1,2 --search=grid);"),
        (("optim.lr=1,2", "random", 2), "--workdir: w holds another sweep"),
    ],
)
def test_another_sweep_is_refused(asked: tuple[str, str, int | None] | None, message: str) -> None:
    now = asked and planned(asked[0], search=asked[1], count=asked[2])
    with pytest.raises(RequestError, match=re.escape(message)):
        go_on(planned("optim.lr=1,2"), now, "w")


def test_sweep_in_the_folder_of_a_plain_study_is_refused() -> None:
    with pytest.raises(RequestError, match="--workdir: w holds a study that is no sweep; leave out --sweep"):
        go_on(None, planned("optim.lr=1,2"), "w")
