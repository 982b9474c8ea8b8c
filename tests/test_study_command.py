"""A screening from the command line: random filters choose which architectures are trained."""

import json
from pathlib import Path

import pandas as pd
import pytest

from cnnjax.study.request import OK, WRONG_REQUEST
from launch import main
from tests.launching import EXPERIMENT, ROOT

pytestmark = pytest.mark.slow

SCREENING = '''"""Do random filters choose?"""

from cnnjax.config import Config, DataConfig, ModelConfig, StudyConfig, TrainConfig

WINDOWS = (1, 3)


def get_config():
    return Config(
        model=ModelConfig(name="convnet", width=2, depth=1, pool="stride"),
        data=DataConfig(name="digits_8x8"),
        train=TrainConfig(epochs=1, batch_size=64),
        study=StudyConfig(seeds=1, baseline="linear on pixels"),
    )


def arms():
    filters = "stage1/.*=gaussian,frozen;head/.*=init,trained"
    return {
        **{f"k{k} trained": {"model.kernel_size": k} for k in WINDOWS},
        **{f"k{k} random": {"model.kernel_size": k, "filters": filters, "head.name": "ridge"} for k in WINDOWS},
        "linear on pixels": {"model.name": "logistic", "head.name": "ridge"},
    }


def screening():
    return {f"k{k}": (f"k{k} random", f"k{k} trained") for k in WINDOWS}
'''


def ask(folder: Path, *flags: str) -> int:
    return main(["launch.py", f"--config={folder / 'saxe.py'}", f"--workdir={folder / 'study'}", *flags])


def states(folder: Path) -> dict[str, str]:
    """The state of each run that has begun."""
    found = (folder / "study" / "runs").glob("*/seed0/status.json")
    return {path.parts[-3]: json.loads(path.read_text())["state"] for path in found}


def written(folder: Path) -> dict[str, int]:
    """When each file of the runs was written."""
    return {str(path): path.stat().st_mtime_ns for path in (folder / "study").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment, and its study with the best of two architectures trained."""
    folder = tmp_path_factory.mktemp("screening")
    (folder / "saxe.py").write_text(SCREENING)
    assert ask(folder, "--top=1") == OK
    return folder


def test_the_chosen_architecture_alone_is_trained(folder: Path) -> None:
    results = pd.read_csv(folder / "study" / "results.csv")
    validation = results[(results.metric == "accuracy") & (results.split == "validation")].set_index("arm").value
    best = max(("k1", "k3"), key=lambda name: validation[f"{name} random"])
    assert states(folder) == dict.fromkeys(
        ("k1 random", "k3 random", "linear on pixels", f"{best} trained"), "finished"
    )
    table = pd.read_csv(folder / "study" / "screening.csv").set_index("architecture")
    assert table.random_runs.tolist() == [1, 1]
    assert table.trained_runs.sum() == 1 == table.trained_runs[best]
    assert json.loads((folder / "study" / "study.json").read_text())["screening"] == {
        name: [f"{name} random", f"{name} trained"] for name in ("k1", "k3")
    }


def test_again_nothing_is_trained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = written(folder)
    assert ask(folder, "--top=1") == OK
    assert written(folder) == before
    said = capsys.readouterr().out
    assert "runs to do" not in said
    assert "linear on pixels (%)" in said and "architectures: 1 of 2" in said


def test_top_is_for_screenings_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = ROOT / EXPERIMENT
    assert main(["launch.py", f"--config={experiment}", f"--workdir={tmp_path / 'w'}", "--top=2"]) == WRONG_REQUEST
    assert f"--top: {experiment} screens no architectures; leave it out" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_the_rest_is_trained_when_no_number_is_given(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: time for path, time in written(folder).items() if "random" in path or "linear" in path}
    assert ask(folder) == OK
    assert "1 of 5 runs to do" in capsys.readouterr().out
    assert set(states(folder).values()) == {"finished"} and len(states(folder)) == 5
    assert before.items() <= written(folder).items()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ["--config.filters=.*=init,trained", "--arms=linear on pixels", "--config.data.augment=flip"],
            "config.data.augment: ridge sees each example as it is; leave it empty",
        ),
        (
            ["--config.head.name=ridge", "--arms=k1 trained"],
            "config.head.name: all but the dense layer head/layer must be frozen, and it trained; "
            "stage1/conv/bias is trained",
        ),
        (
            ["--config.head.name=ridge", "--config.model.name=lenet5", "--arms=k1 trained"],
            "model lenet5 has no field 'kernel_size'",
        ),
        (
            ["--config.filters=.*=checkpoint:/nowhere,trained", "--arms=k1 trained"],
            "config.filters: there is no run in",
        ),
        (["--config.filters=.*=arm:k9,trained", "--arms=k1 trained"], "there is no arm 'k9'; there are: k1 random"),
        (["--config.filters=.*=arm:k1 trained,trained", "--arms=k1 trained"], "k1 trained takes filters from itself"),
    ],
)
def test_wrong_request_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    (tmp_path / "saxe.py").write_text(SCREENING)
    assert ask(tmp_path, *flags) == WRONG_REQUEST
    said = capsys.readouterr().err
    assert says in said and len(said.strip().splitlines()) == 1
    assert not (tmp_path / "study").exists()
