"""What the tests share: data sets prepared in a folder of the session, and one small study that has finished."""

import os
import shutil
import tempfile

# TFDS reads this when it is imported: nothing is written into the user's own data folder.
os.environ["TFDS_DATA_DIR"] = tempfile.mkdtemp(prefix="cnnjax-tests-")

import pytest
import tensorflow_datasets as tfds

from cnnjax.config import DataConfig
from cnnjax.data.dataset import Dataset, load_dataset


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["TFDS_DATA_DIR"], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def data_dir() -> str:
    """The folder of the session's data sets, where TFDS looks too."""
    assert tfds.core.constants.DATA_DIR == os.environ["TFDS_DATA_DIR"]
    return os.environ["TFDS_DATA_DIR"]


@pytest.fixture(scope="session")
def digits(data_dir: str) -> Dataset:
    return load_dataset(DataConfig(name="digits_8x8", dir=data_dir))
