"""Checkpoints: read back as they were written, or not at all."""

import copy
import errno
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from cnnjax.config import RequestError
from cnnjax.train.checkpoint import Checkpoint, Checkpoints, fingerprint

# TensorStore answers reads that Orbax no longer waits for, once one of them has failed.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning")

PROGRESS = {"seconds": {"train": 1.5}}


def items(step: int) -> dict[str, Any]:
    """Arrays of several dtypes and shapes, other ones at each step."""
    rng = np.random.default_rng(step)
    trained = {
        "head/kernel": rng.normal(size=(30, 4)).astype(np.float32),
        "head/bias": np.zeros(4, np.float32),
    }
    state = {"step": np.int32(step), "trained": trained, "count": rng.integers(0, 256, 9, np.uint8)}
    return {
        "state": state,
        "best": {"params": {"a/b": rng.normal(size=200).astype(np.float32)}, "batch_stats": {}},
    }


def newest(folder: Path, *, read_only: bool = False) -> Checkpoint | None:
    checkpoints = Checkpoints(epath.Path(folder), read_only=read_only)
    found = checkpoints.newest(items(0))
    checkpoints.close()
    return found


def assert_is(found: Checkpoint | None, step: int) -> None:
    """The checkpoint of a step, bit for bit."""
    assert found is not None
    assert (found.step, found.progress) == (step, PROGRESS)
    left, right = (jax.tree_util.tree_leaves_with_path(tree) for tree in (found.items, items(step)))
    for (path, a), (wanted, b) in zip(left, right, strict=True):
        assert path == wanted
        assert (np.asarray(a).dtype, np.shape(a)) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == b.tobytes()


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with when it was changed."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpoints = Checkpoints(epath.Path(folder))
    for step in (1, 2):
        checkpoints.save(step, items(step), PROGRESS)
    checkpoints.close()
    return folder


@pytest.mark.parametrize("read_only", [False, True])
def test_newest_is_what_was_saved_last(saved: Path, read_only: bool) -> None:
    assert_is(newest(saved, read_only=read_only), 2)


def test_empty_folder_has_none(tmp_path: Path) -> None:
    assert newest(tmp_path / "checkpoints") is None


def test_folder_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints(epath.Path("runs/checkpoints"))
    checkpoints.save(1, items(1), PROGRESS)
    checkpoints.close()
    assert_is(newest(Path("runs/checkpoints"), read_only=True), 1)


def test_shapes_other_than_the_saved_ones_are_not_read(saved: Path) -> None:
    checkpoints = Checkpoints(epath.Path(saved), read_only=True)
    for params in ({"a/b": np.zeros(100, np.float32)}, {"a/c": np.zeros(200, np.float32)}, {}):
        with pytest.raises(RequestError, match=r"2 holds arrays of other names or shapes than this network's \(best\)"):
            checkpoints.newest({"best": {"params": params, "batch_stats": {}}})
    checkpoints.close()


@pytest.mark.parametrize("error", [MemoryError("no room"), OSError(errno.EMFILE, "Too many open files")])
def test_whole_checkpoint_that_cannot_be_read_now_is_not_called_broken(
    saved: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("cannot be opened") from error

    checkpoints = Checkpoints(epath.Path(saved), read_only=True)
    monkeypatch.setattr(checkpoints._manager, "restore", fail)
    with pytest.raises(ValueError, match="cannot be opened"):
        checkpoints.newest(items(0))
    checkpoints.close()


def test_progress_is_what_it_was_when_it_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints, late = Checkpoints(epath.Path(tmp_path)), []
    write = checkpoints._manager.save
    monkeypatch.setattr(checkpoints._manager, "save", lambda step, args: late.append((step, args)))
    progress = copy.deepcopy(PROGRESS)
    checkpoints.save(1, items(1), progress)
    progress["seconds"]["train"] = 2.5
    for step, args in late:  # as Orbax does, in the background
        write(step, args=args)
    checkpoints.close()
    assert_is(newest(tmp_path), 1)


def test_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(epath.Path(tmp_path))
    for step in (1, 5, 7):
        checkpoints.save(step, items(step), PROGRESS)
    checkpoints.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5", "7"]


def test_step_saved_before_is_left_as_it_is_where_nothing_has_changed(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    checkpoints = Checkpoints(epath.Path(folder))
    assert checkpoints.newest(items(0)) is not None
    before = {path: path.stat().st_ino for path in folder.rglob("*")}
    checkpoints.save(2, items(2), PROGRESS)
    checkpoints.close()
    assert {path: path.stat().st_ino for path in folder.rglob("*")} == before
    assert_is(newest(folder), 2)


@pytest.mark.parametrize("read", [True, False])
def test_step_saved_before_is_written_anew_where_it_has_changed(saved: Path, tmp_path: Path, read: bool) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    checkpoints = Checkpoints(epath.Path(folder))
    if read:
        checkpoints.newest(items(0))
    checkpoints.save(2, items(9), PROGRESS)
    checkpoints.close()
    found = newest(folder)
    assert found is not None and found.step == 2
    assert fingerprint(found.items) == fingerprint(items(9))


def test_saved_arrays_are_copies(tmp_path: Path) -> None:
    checkpoints = Checkpoints(epath.Path(tmp_path))
    on_device = jax.tree.map(jnp.asarray, items(1))
    checkpoints.save(1, on_device, PROGRESS)
    jax.tree.map(lambda a: a.delete(), on_device)  # as a donated array is
    checkpoints.close()
    assert_is(newest(tmp_path), 1)


def test_one_item_can_be_read_alone(saved: Path) -> None:
    checkpoints = Checkpoints(epath.Path(saved), read_only=True)
    found = checkpoints.newest({"best": items(0)["best"]})
    checkpoints.close()
    assert found is not None
    assert list(found.items) == ["best"]
    np.testing.assert_array_equal(found.items["best"]["params"]["a/b"], items(2)["best"]["params"]["a/b"])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [halve, empty, Path.unlink, flip_a_bit])
@pytest.mark.parametrize("read_only", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_damaged_file_costs_one_checkpoint_at_most(
    saved: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    read_only: bool,
) -> None:
    files = [path.relative_to(saved) for path in sorted((saved / "2").rglob("*")) if path.is_file()]
    fallen_back = 0
    assert len(files) > 10
    for number, file in enumerate(files):
        folder = shutil.copytree(saved, tmp_path / str(number))
        damage(folder / file)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "cnnjax"):
            found = newest(folder, read_only=read_only)
        warnings = [record.getMessage() for record in caplog.records if record.name.startswith("cnnjax")]
        warned = any(str(folder / "2") in warning for warning in warnings)
        assert found is not None, file
        assert warned == (found.step == 1), file
        assert_is(found, found.step)
        fallen_back += warned
    assert fallen_back >= 4


@pytest.mark.parametrize("item", ["state", "best"])
def test_whole_arrays_that_are_not_the_saved_ones_are_not_read(saved: Path, tmp_path: Path, item: str) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    shutil.rmtree(folder / "2" / item)
    shutil.copytree(folder / "1" / item, folder / "2" / item)
    assert_is(newest(folder), 1)


def test_every_bit_of_the_progress_is_checked(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    path = folder / "2" / "progress" / "metadata"
    text = path.read_text()
    assert "1.5" in text
    path.write_text(text.replace("1.5", "1.4"))
    assert_is(newest(folder), 1)


def test_broken_checkpoint_makes_room_for_a_whole_one(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    halve(folder / "2" / "state" / "_METADATA")
    before = contents(folder)
    checkpoints = Checkpoints(epath.Path(folder))
    assert_is(checkpoints.newest(items(0)), 1)
    assert contents(folder) == before
    checkpoints.save(2, items(2), PROGRESS)
    checkpoints.close()
    assert_is(newest(folder), 2)


def test_none_is_whole(saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    for step in ("1", "2"):
        empty(folder / step / "state" / "manifest.ocdbt")
        shutil.rmtree(folder / step / "state" / "ocdbt.process_0")
    assert newest(folder) is None
    assert [
        record.getMessage().rpartition("; ")[2] for record in caplog.records if record.name.startswith("cnnjax")
    ] == [
        "going on from the one before",
        "starting anew",
    ]


def test_unfinished_save_of_a_killed_process_is_not_read(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    shutil.copytree(folder / "1", folder / "3.orbax-checkpoint-tmp")
    assert_is(newest(folder), 2)


@pytest.mark.parametrize("broken", [False, True])
def test_read_only_changes_nothing(saved: Path, tmp_path: Path, broken: bool) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    shutil.copytree(folder / "1", folder / "3.orbax-checkpoint-tmp")
    if broken:
        halve(folder / "2" / "state" / "_METADATA")
    before = contents(folder)
    assert_is(newest(folder, read_only=True), 1 if broken else 2)
    assert contents(folder) == before


def test_fingerprint_sees_bits_dtypes_and_shapes() -> None:
    array = np.array([1.0, 2.0], np.float32)
    others = [
        np.array([1.0, np.nextafter(np.float32(2), np.float32(3))], np.float32),
        array.astype(np.float64),
        array.view(np.int32),
        array[None],
        np.array([2.0, 1.0], np.float32),
    ]
    prints = {fingerprint({"a": value}) for value in [array, *others]}
    assert len(prints) == 6
    assert fingerprint({"a": jnp.asarray(array)}) == fingerprint({"a": array.copy()})
    assert fingerprint([array, others[0]]) != fingerprint([others[0], array])
