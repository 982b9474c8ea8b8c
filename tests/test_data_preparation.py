"""Finding data sets by name, and preparing them without TensorFlow in this process."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnnjax.config import DataConfig, RequestError
from cnnjax.data.dataset import Dataset
from cnnjax.data.preparation import find_builder, prepared_builder


@pytest.mark.parametrize(
    ("wrong", "right"), [("mnist5k", "mnist_5k"), ("cifar1O", "cifar10"), ("digits_8x9", "digits_8x8")]
)
def test_unknown_name_gives_the_nearest(tmp_path: Path, wrong: str, right: str) -> None:
    with pytest.raises(RequestError, match=f"unknown data set '{wrong}'; did you mean '{right}'"):
        prepared_builder(DataConfig(name=wrong, dir=str(tmp_path)))


def test_name_like_no_other_gives_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there are: digits_8x8, located_digits, mnist1d, mnist_5k"):
        prepared_builder(DataConfig(name="qqqqqq", dir=str(tmp_path)))


@pytest.mark.parametrize("name", ["cifar10:9.9.9", "cifar10/no_such_config", "mnist_5k:3.0.0", "a b", ""])
def test_malformed_name_is_one_clear_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError) as raised:
        prepared_builder(DataConfig(name=name, dir=str(tmp_path)))
    message = str(raised.value)
    assert message.startswith("config.data.name: ")
    assert name in message
    assert "tensorflow" not in message  # installing it would not help
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("digits_8x8", "--config.data.dir=OTHER"),
        (
            "mnist",
            "--config.data.dir=OTHER, once it is prepared there: tfds build mnist --file_format=array_record "
            "--data_dir=OTHER",
        ),
    ],
)
def test_set_prepared_in_another_format(tmp_path: Path, name: str, advice: str) -> None:
    folder = Path(find_builder(DataConfig(name=name, dir=str(tmp_path))).data_path)
    folder.mkdir(parents=True)
    values = {"name": name, "version": folder.name, "fileFormat": "tfrecord", "splits": [], "moduleName": "elsewhere"}
    (folder / "dataset_info.json").write_text(json.dumps(values))
    (folder / "features.json").write_text("{}")
    with pytest.raises(RequestError) as raised:
        prepared_builder(DataConfig(name=name, dir=str(tmp_path)))
    assert str(raised.value) == (
        f"config.data.name: {name} is prepared in {tmp_path}, but not as ArrayRecord; "
        f"give another folder, as in {advice}"
    )


def test_unprepared_set_says_what_to_install_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find(name))
    with pytest.raises(RequestError) as raised:
        prepared_builder(DataConfig(name="cifar10", dir=str(tmp_path)))
    assert str(raised.value) == (
        f"config.data.name: cifar10 is not prepared in {tmp_path}; run: pip install tensorflow-cpu && "
        f"tfds build cifar10 --file_format=array_record --data_dir={tmp_path}"
    )
    assert not list(tmp_path.iterdir())


@pytest.fixture
def broken_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TensorFlow that is found, here and by new processes, and cannot be imported."""
    package = tmp_path / "packages" / "tensorflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('this TensorFlow is broken')\n")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv(
        "PYTHONPATH", f"{package.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep)
    )
    return package.parent


def test_build_that_fails_says_why(tmp_path: Path, broken_tensorflow: Path) -> None:
    folder = tmp_path / "data"
    with pytest.raises(RequestError) as raised:
        prepared_builder(DataConfig(name="cifar10", dir=str(folder)))
    assert str(raised.value) == (
        f"config.data.name: cifar10 is not prepared in {folder}, and preparing it failed (RuntimeError: this "
        "TensorFlow is broken); run: pip install tensorflow-cpu && tfds build cifar10 --file_format=array_record "
        f"--data_dir={folder}"
    )


READ = """
import sys
from cnnjax.config import DataConfig
from cnnjax.data.dataset import load_dataset

print(len(load_dataset(DataConfig(name="digits_8x8", dir=sys.argv[1])).train), "tensorflow" in sys.modules)
"""


def test_tensorflow_is_never_imported(data_dir: str, digits: Dataset, broken_tensorflow: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", READ, data_dir], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == [str(len(digits.train)), "False"]


def test_shipped_set_is_prepared_once(digits: Dataset, data_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = prepared_builder(DataConfig(name="digits_8x8", dir=data_dir))
    monkeypatch.setattr(type(builder), "download_and_prepare", lambda self: pytest.fail("prepared again"))
    again = prepared_builder(DataConfig(name="digits_8x8", dir=data_dir))
    assert again.info.splits["train"].num_examples == len(digits.train)
    assert again.info.file_format.value == "array_record"
