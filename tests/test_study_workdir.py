"""The folder of a study: new, gone on with, or refused; and nothing is written by asking."""

import dataclasses
import datetime
import json
import re
from pathlib import Path

import pytest
from etils import epath

from cnnjax.config import Config, MeasureConfig, OptimConfig, RequestError, StudyConfig
from cnnjax.study.experiment import Experiment, Lines
from cnnjax.study.sweep.trials import Sweep, plan_sweep
from cnnjax.study.workdir import Study, Unit, claim, open_study, read_status, read_study, write_study


def experiment(*arms: str, seeds: int = 2, lr: float = 0.1, name: str = "question") -> Experiment:
    config = Config(optim=OptimConfig(lr=lr), study=StudyConfig(seeds=seeds))
    return Experiment(name, "Does it matter?", dict.fromkeys(arms or ("learned", "random"), config))


@pytest.fixture
def folder(tmp_path: Path) -> epath.Path:
    """A workdir with a study of two arms and two seeds."""
    folder = epath.Path(tmp_path / "study")
    write_study(open_study(folder, experiment()))
    return folder


def refused(folder: epath.Path, wanted: Experiment, sweep: Sweep | None = None) -> str:
    """The one line that a request is refused with; nothing in the folder changes."""

    def contents() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}

    before = contents()
    with pytest.raises(RequestError) as raised:
        open_study(folder, wanted, sweep)
    assert contents() == before
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_new_study_writes_nothing_until_it_is_told_to(tmp_path: Path) -> None:
    study = open_study(epath.Path(tmp_path / "new"), experiment(seeds=3))
    assert study.seeds == 3
    assert not list(tmp_path.iterdir())


def test_empty_folder_will_do(tmp_path: Path) -> None:
    assert open_study(epath.Path(tmp_path), experiment()).folder == epath.Path(tmp_path)
    assert not list(tmp_path.iterdir())


def test_units_are_every_arm_of_each_seed_in_turn(folder: epath.Path) -> None:
    runs = folder / "runs"
    assert read_study(folder).units == [
        Unit("learned", 0, runs / "learned" / "seed0"),
        Unit("random", 0, runs / "random" / "seed0"),
        Unit("learned", 1, runs / "learned" / "seed1"),
        Unit("random", 1, runs / "random" / "seed1"),
    ]


def test_study_is_read_back(folder: epath.Path) -> None:
    assert read_study(folder) == Study(folder, experiment(), 2)


def test_screening_and_lines_are_read_back(tmp_path: Path) -> None:
    wanted = dataclasses.replace(
        experiment(),
        screening={"small": ("random", "learned")},
        lines=Lines("model.width", {"a": ("learned", "random"), "b": ("random",)}),
    )
    study = open_study(epath.Path(tmp_path), wanted)
    write_study(study)
    assert read_study(epath.Path(tmp_path)) == study == open_study(epath.Path(tmp_path), wanted)
    assert read_study(epath.Path(tmp_path)).experiment == wanted


SWEPT = ("learned/optim.lr=0.01,0.1",)


def sweep_of(*arms: str, seeds: int = 2, momentum: float = 0.9) -> tuple[Experiment, Sweep]:
    """One whose first arm is swept."""
    wanted = experiment(*arms, seeds=seeds)
    configs = {
        arm: dataclasses.replace(config, optim=dataclasses.replace(config.optim, momentum=momentum))
        for arm, config in wanted.arms.items()
    }
    return dataclasses.replace(wanted, arms=configs), plan_sweep(Sweep(SWEPT, "grid", None, configs))


def test_sweep_is_read_back_with_its_trials_as_arms(tmp_path: Path) -> None:
    folder, asked = epath.Path(tmp_path / "sweep"), sweep_of()
    study = open_study(folder, *asked)
    assert list(study.experiment.arms) == ["random", "learned,lr=0.01", "learned,lr=0.1"]
    write_study(study)
    assert read_study(folder) == study == open_study(folder, *asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (sweep_of(seeds=3), "holds a sweep of learned, random with 2 seeds; ask for the same, or use another folder"),
        (sweep_of("learned"), "holds a sweep of learned, random with 2 seeds"),
        (sweep_of(momentum=0.5), "(arm learned: optim.momentum was 0.9 and is now 0.5)"),
        ((experiment(), None), "holds a sweep; give its flags again"),
    ],
)
def test_sweep_of_other_arms_is_refused(tmp_path: Path, asked: tuple[Experiment, Sweep | None], message: str) -> None:
    folder = epath.Path(tmp_path / "sweep")
    write_study(open_study(folder, *sweep_of()))
    assert message in refused(folder, *asked)


def test_sweep_of_a_plain_study_is_refused(folder: epath.Path) -> None:
    assert "holds a study that is no sweep; leave out --sweep" in refused(folder, *sweep_of())


def test_measures_of_a_sweep_may_change(tmp_path: Path) -> None:
    folder, (asked, sweep) = epath.Path(tmp_path / "sweep"), sweep_of()
    write_study(open_study(folder, asked, sweep))
    measures = MeasureConfig(names=("accuracy",))
    arms = {arm: dataclasses.replace(config, measures=measures) for arm, config in asked.arms.items()}
    found = open_study(folder, dataclasses.replace(asked, arms=arms), dataclasses.replace(sweep, bases=arms))
    assert {config.measures for config in found.experiment.arms.values()} == {measures}


def test_study_says_what_it_was_made_on(folder: epath.Path) -> None:
    machine = json.loads((folder / "study.json").read_text())["machine"]
    assert {"jax", "flax", "numpy"} <= set(machine["versions"])
    assert {"devices", "platform", "python"} <= set(machine)
    assert datetime.date.fromisoformat(machine["date"]) <= datetime.date.today()
    assert re.fullmatch(r"\d+ cores, .+", machine["processor"])


def test_same_request_goes_on(folder: epath.Path) -> None:
    assert open_study(folder, experiment()) == read_study(folder)


def test_more_seeds_are_added(folder: epath.Path) -> None:
    assert open_study(folder, experiment(seeds=5)).seeds == 5


def test_fewer_seeds_take_none_away(folder: epath.Path) -> None:
    assert open_study(folder, experiment(seeds=1)).seeds == 2


def test_more_arms_are_added(folder: epath.Path) -> None:
    study = open_study(folder, experiment("random", "linear"))
    assert list(study.experiment.arms) == ["learned", "random", "linear"]
    write_study(study)
    assert read_study(folder) == study


def test_baseline_may_change(folder: epath.Path) -> None:
    config = Config(optim=OptimConfig(lr=0.1), study=StudyConfig(seeds=2, baseline="random"))
    for arms in (("learned", "random"), ("random",)):
        wanted = Experiment("question", "Does it matter?", dict.fromkeys(arms, config))
        assert open_study(folder, wanted).experiment.baseline == "random"


def test_report_is_due_when_the_study_is_another(folder: epath.Path) -> None:
    write_study(dataclasses.replace(read_study(folder), reported=True))
    baseline = Config(optim=OptimConfig(lr=0.1), study=StudyConfig(seeds=2, baseline="random"))
    wanted = experiment("learned")
    assert open_study(folder, wanted).reported
    assert open_study(folder, experiment(seeds=1)).reported
    assert not open_study(folder, experiment(seeds=3)).reported
    assert not open_study(folder, experiment("learned", "linear")).reported
    assert not open_study(folder, dataclasses.replace(wanted, arms={"learned": baseline})).reported


def test_first_write_that_was_cut_off_leaves_a_new_study(tmp_path: Path) -> None:
    (tmp_path / ".study.json.partial").write_text('{"form')
    (tmp_path / ".lock").touch()
    study = open_study(epath.Path(tmp_path), experiment())
    write_study(study)
    assert read_study(epath.Path(tmp_path)) == study


def test_one_process_at_a_time(folder: epath.Path) -> None:
    with claim(folder), pytest.raises(RequestError, match="--workdir: another process trains in"), claim(folder):
        pytest.fail("claimed twice")
    with claim(folder):
        pass


def test_folder_that_cannot_be_made_names_its_flag(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    folder = epath.Path(tmp_path / "thesis.tex" / "study")
    assert open_study(folder, experiment()).folder == folder
    with pytest.raises(RequestError, match=r"--workdir: .*study cannot be written \(Not a directory\)"), claim(folder):
        pytest.fail("claimed")


def test_folder_without_permission(folder: epath.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(folder), "iterdir", forbid)
    with pytest.raises(RequestError, match=r"--workdir: .* cannot be read \(Permission denied\)"):
        open_study(folder, experiment())


def test_other_config_says_what_differs(folder: epath.Path) -> None:
    message = refused(folder, experiment("learned", lr=0.3))
    assert "(arm learned: optim.lr was 0.1 and is now 0.3)" in message


def test_other_experiment(folder: epath.Path) -> None:
    assert "holds the study 'question', not 'another'" in refused(folder, experiment(name="another"))


def test_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    message = refused(epath.Path(tmp_path), experiment())
    assert "is not empty and holds no study (thesis.tex, ...)" in message


def test_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    assert "is a file; give a folder" in refused(epath.Path(tmp_path / "thesis.tex"), experiment())


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 6}', '{"format": 6, "experiment": "question"}'])
def test_unreadable_study(folder: epath.Path, text: str) -> None:
    (folder / "study.json").write_text(text)
    message = refused(folder, experiment())
    assert message.startswith(f"--workdir: {folder / 'study.json'} is not what cnnjax wrote")


def test_study_of_another_format(folder: epath.Path) -> None:
    values = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**values, "format": 99}))
    assert "has format 99; this version reads 6" in refused(folder, experiment())


def test_no_study(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RequestError, match="there is no study in"):
            read_study(epath.Path(folder))


def test_status_of_a_run_that_has_not_begun_is_empty(folder: epath.Path) -> None:
    assert read_status(read_study(folder).units[0]) == {}


def test_status_is_read_back(folder: epath.Path) -> None:
    unit = read_study(folder).units[0]
    unit.folder.mkdir(parents=True)
    (unit.folder / "status.json").write_text('{"state": "running", "step": 3}')
    assert read_status(unit) == {"state": "running", "step": 3}


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", "7", "{}", '{"state": "fnished"}', '{"state": "finished"}', '{"state": "failed"}']
)
def test_unreadable_status(folder: epath.Path, text: str) -> None:
    unit = read_study(folder).units[0]
    unit.folder.mkdir(parents=True)
    (unit.folder / "status.json").write_text(text)
    with pytest.raises(RequestError, match=r"status\.json is not what cnnjax wrote.*remove .*seed0 to run it again"):
        read_status(unit)
