"""Finding a TFDS data set by name, and preparing it as ArrayRecord where that is possible here.

TensorFlow is never imported by this process. The shipped builders need none; another set that is not yet prepared is
built by a process of its own, if TensorFlow is installed.
"""

import contextlib
import difflib
import importlib.util
import io
import logging
import subprocess
import sys
from typing import Any

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.registered import DatasetNotFoundError

from cnnjax.config import DataConfig, RequestError, nearest
from cnnjax.data.builders.digits_8x8.digits_8x8_dataset_builder import Builder as Digits8x8
from cnnjax.data.builders.located_digits.located_digits_dataset_builder import Builder as LocatedDigits
from cnnjax.data.builders.mnist1d.mnist1d_dataset_builder import Builder as Mnist1d
from cnnjax.data.builders.mnist_5k.mnist_5k_dataset_builder import Builder as Mnist5k

SHIPPED: dict[str, type[tfds.core.DatasetBuilder]] = {
    "mnist_5k": Mnist5k,
    "digits_8x8": Digits8x8,
    "mnist1d": Mnist1d,
    "located_digits": LocatedDigits,
}

_ARRAY_RECORD = "array_record"
log = logging.getLogger(__name__)


def prepared_builder(config: DataConfig) -> tfds.core.DatasetBuilder:
    """The builder of `config.name`, its data on disk as ArrayRecord and readable without TensorFlow.

    Raises:
      RequestError: for an unknown name, or a set that cannot be prepared here; it says what to install or run.
    """
    builder = find_builder(config)
    if builder.is_prepared():
        return builder
    if config.name in SHIPPED:
        log.info("preparing %s in %s", config.name, builder.data_path)
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):  # it says at length what the line above says
            builder.download_and_prepare()
    else:
        _prepare_in_another_process(config, builder)
    return builder


def find_builder(config: DataConfig) -> tfds.core.DatasetBuilder:
    """The builder of `config.name`, prepared or not.

    Raises:
      RequestError: for an unknown name; it gives the nearest one that there is.
    """
    arguments: dict[str, Any] = {"data_dir": config.dir or None, "file_format": _ARRAY_RECORD}
    try:
        if config.name in SHIPPED:
            return SHIPPED[config.name](**arguments)
        return tfds.builder(config.name, **arguments)
    except DatasetNotFoundError:
        known = [*SHIPPED, *tfds.list_builders(with_community_datasets=False)]
        close = difflib.get_close_matches(config.name, known, n=1, cutoff=0.6)
        problem = f"unknown data set {config.name!r}; {nearest(config.name, close or SHIPPED)}, and any name of TFDS"
    except Exception as error:  # a builder's own code may need packages that are not here
        lines = str(error).strip().splitlines() or [type(error).__name__]
        problem = f"{config.name!r} does not load ({lines[0]})"
        if isinstance(error, ImportError) or "No module named" in str(error):
            problem = f"the builder of {config.name} needs a package that is not here ({lines[-1]}); {_advice(config)}"
        elif "File format is already set" in str(error):
            problem = (
                f"{config.name} is prepared in {_root(config)}, but not as ArrayRecord; {_prepare_elsewhere(config)}"
            )
    raise RequestError(f"config.data.name: {problem}")


def _root(config: DataConfig) -> epath.Path:
    return epath.Path(config.dir or tfds.core.constants.DATA_DIR)


def _build_command(config: DataConfig) -> list[str]:
    return ["tfds", "build", config.name, f"--file_format={_ARRAY_RECORD}", f"--data_dir={_root(config)}"]


def _advice(config: DataConfig) -> str:
    return f"run: pip install tensorflow-cpu && {' '.join(_build_command(config))}"


def _prepare_elsewhere(config: DataConfig) -> str:
    elsewhere = "give another folder, as in --config.data.dir=OTHER"
    if config.name in SHIPPED:
        return elsewhere
    command = ["tfds", "build", config.name, f"--file_format={_ARRAY_RECORD}", "--data_dir=OTHER"]
    return f"{elsewhere}, once it is prepared there: {' '.join(command)}"


def _prepare_in_another_process(config: DataConfig, builder: tfds.core.DatasetBuilder) -> None:
    missing = f"config.data.name: {config.name} is not prepared in {_root(config)}"
    if importlib.util.find_spec("tensorflow") is None:
        raise RequestError(f"{missing}; {_advice(config)}")
    log.info("preparing %s in %s with TensorFlow, in another process", config.name, builder.data_path)
    module = [sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", *_build_command(config)[1:]]
    finished = subprocess.run(module, capture_output=True, text=True)
    if finished.returncode or not builder.is_prepared():
        reason = (finished.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise RequestError(f"{missing}, and preparing it failed ({reason}); {_advice(config)}")
