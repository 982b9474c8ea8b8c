"""Points by Optuna, on planted objectives: better than chance, the same again, and shared by many launchers."""

import builtins
import math
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnjax.config import Config, RequestError, override
from cnnjax.study.sweep.search import Point
from cnnjax.study.sweep.search import random as draw
from cnnjax.study.sweep.spec import Choices, Dimension, Range
from cnnjax.study.sweep.tpe import Asker, import_optuna, kept_alive, name_in_storage, open_storage

DIMENSIONS = (
    Dimension("optim.lr", Range("log", False, 1e-4, 1.0)),
    Dimension("optim.momentum", Range("linear", False, 0.0, 0.9)),
    Dimension("model.width", Range("linear", True, 1.0, 8.0)),
    Dimension("model.act", Choices(("relu", "tanh"))),
)

# What changes no score.
SAYS_NOTHING = {"study.pack": 1, "study.baseline": "a", "measures.images": 7}


def quadratic(point: Point) -> float:
    """1 at a learning rate of 0.01, a momentum of 0.6 and relu, whatever the width."""
    away = (math.log10(float(point["optim.lr"])) + 2) ** 2 / 4 + (float(point["optim.momentum"]) - 0.6) ** 2
    return 1 - away - (0.5 if point["model.act"] == "tanh" else 0)


@pytest.fixture
def storage() -> Any:
    """What stays when a launcher is killed."""
    return import_optuna().storages.InMemoryStorage()


def asker(storage: Any, owner: str = "") -> Asker:
    """A launcher that has just been started."""
    return Asker(storage, "arm", DIMENSIONS, owner, f"folder of {owner}")


def run(given: Asker, total: int, slots: int = 1) -> list[Point]:
    """All points that it asks for, to the end."""
    points = []
    while True:
        given.ask(slots, total)
        if not (asked := given.asked()):
            return points
        for number, point in asked.items():
            points.append(point)
            given.tell(number, quadratic(point))


def test_it_comes_nearer_to_a_planted_optimum_than_chance(storage: Any) -> None:
    points = run(asker(storage), 40)
    late = np.mean([quadratic(point) for point in points[20:]])
    by_chance = np.mean([quadratic(point) for point in draw(DIMENSIONS, 500, 1)])
    # Of the most that there is to gain over chance, more than half in the mean.
    assert late > (1 + by_chance) / 2
    assert max(map(quadratic, points)) > 0.98


def test_points_lie_within_their_ranges(storage: Any) -> None:
    points = run(asker(storage), 12, slots=4)
    assert len({tuple(point.values()) for point in points}) == 12
    for point in points:
        assert list(point) == [dimension.field for dimension in DIMENSIONS]
        assert 1e-4 <= float(point["optim.lr"]) <= 1 and 0 <= float(point["optim.momentum"]) <= 0.9
        assert isinstance(point["model.width"], int) and 1 <= point["model.width"] <= 8
        assert point["model.act"] in ("relu", "tanh")
        assert point["optim.lr"] == float(f"{point['optim.lr']:.4g}")


def test_one_that_was_stopped_asks_as_one_that_was_not(storage: Any) -> None:
    untouched = run(asker(import_optuna().storages.InMemoryStorage()), 15, slots=3)
    first = asker(storage)
    for _ in range(4):
        first.ask(3, 15)
        points = first.asked()
        for number, point in points.items():
            first.tell(number, quadratic(point))
    first.ask(3, 15)
    left = asker(storage).asked()  # killed before they have run
    assert list(left) == [12, 13, 14] and list(left.values()) == untouched[12:]
    assert asker(storage).asked() == left


def test_no_more_than_are_wanted_are_asked_for(storage: Any) -> None:
    given = asker(storage)
    given.ask(4, 3)
    assert list(given.asked()) == [0, 1, 2]
    given.tell(1, None)
    given.ask(4, 3)
    assert list(given.asked()) == [0, 2]


def test_trial_that_was_being_asked_for_when_the_launcher_was_killed(storage: Any) -> None:
    optuna = import_optuna()
    study = optuna.create_study(storage=storage, study_name="arm", direction="maximize")
    study.ask().suggest_float("optim.lr", 1e-4, 1.0, log=True)
    given = asker(storage)
    assert given.asked() == {}
    given.ask(1, 2)
    assert list(given.asked()) == [1]


def test_launchers_share_the_trials_and_the_best_alone_goes_on(storage: Any) -> None:
    here, there = asker(storage, "here"), asker(storage, "there")
    here.ask(2, 3)
    there.ask(2, 3)
    assert (list(here.asked()), list(there.asked())) == ([0, 1], [2])
    here.tell(0, 0.5)
    here.tell(1, 0.6)
    assert here.others() == "other launchers are training 1 trials; run this again when they are done"
    there.tell(2, 0.7)
    assert there.others() == ""
    assert here.others() == "the best trial is in folder of there, which reads the test split"


def test_launchers_that_ask_at_the_same_time_ask_for_no_more_than_are_wanted(storage: Any) -> None:
    here, there = asker(storage, "here"), asker(storage, "there")
    ask = here._study.ask

    def after_another(*arguments: Any) -> Any:
        there.ask(1, 3)
        return ask(*arguments)

    here._study.ask = after_another
    here.ask(2, 3)
    assert (list(here.asked()), list(there.asked())) == ([1], [0, 2])


def test_trials_of_a_launcher_that_is_lost_are_given_up(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/optuna.db", shared=True)
    here, there = asker(storage, "here"), asker(storage, "there")
    here.ask(1, 2)
    there.ask(1, 2)
    here.tell(0, 0.5)
    assert here.others() == "other launchers are training 1 trials; run this again when they are done"
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-11 minutes')")
    there.beat()
    assert here.others() == "other launchers are training 1 trials; run this again when they are done"
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-11 minutes')")
    assert here.others() == ""
    assert there.asked() == {}
    there.tell(1, 0.9)  # it was not lost after all
    assert here.others() == ""


def test_signs_of_life_are_given_until_the_end_whatever_a_database_says() -> None:
    beats: list[int] = []
    enough = threading.Event()

    class Beating:
        def beat(self) -> None:
            beats.append(len(beats))
            if len(beats) == 3:
                enough.set()
            raise ConnectionError("it is away for a while")

    with kept_alive([Beating()], interval=0.001):  # type: ignore[list-item]
        assert enough.wait(30)
    given = len(beats)
    time.sleep(0.05)
    assert len(beats) == given


def test_trials_are_shared_by_what_decides_their_scores() -> None:
    plain, batch = Config(), override(Config(), {"train.batch_size": 16})

    def name(*, arm: Config = plain, other: Config = plain, seeds: int = 1, flags: str = "--sweep=x") -> str:
        return name_in_storage("question", "a", {"a": arm, "b": other}, seeds, flags)

    assert name().startswith("question/a ")
    for path, value in SAYS_NOTHING.items():
        assert name(arm=override(plain, {path: value})) == name()
    assert len({name(), name(arm=batch), name(other=batch), name(seeds=2), name(flags="--sweep=y")}) == 5


@pytest.mark.slow
def test_trials_are_kept_in_a_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    asker(open_storage(url, shared=False)).ask(2, 2)
    left = asker(open_storage(url, shared=False)).asked()
    reference = asker(import_optuna().storages.InMemoryStorage())
    reference.ask(2, 2)
    assert left == reference.asked() and len(left) == 2


def test_nothing_is_best_where_all_failed(storage: Any) -> None:
    given = asker(storage)
    given.ask(1, 1)
    given.tell(0, None)
    assert given.others() == ""


def test_optuna_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def importing(name: str, *arguments: Any) -> Any:
        if name == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'")
        return original(name, *arguments)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(RequestError, match=r"--search=tpe: Optuna is not installed; pip install 'cnnjax\[sweep\]'"):
        import_optuna()


@pytest.mark.parametrize("url", ["sqlit:///x.db", "nowhere", "sqlite:////no/such/folder/x.db"])
def test_storage_that_cannot_be_opened(url: str) -> None:
    with pytest.raises(RequestError, match=f"--storage={url}: Optuna cannot open it") as raised:
        open_storage(url, shared=True)
    assert "\n" not in str(raised.value)
