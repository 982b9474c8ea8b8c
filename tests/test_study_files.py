"""Files are either whole or as they were."""

import json
from pathlib import Path

import pytest
from etils import epath

from cnnjax.study.files import is_disk_full, write_json, write_text


def test_json_is_read_back(tmp_path: Path) -> None:
    values = {"a": [1, 2.5, None], "b": {"ü": "–"}}
    write_json(epath.Path(tmp_path / "a.json"), values)
    assert json.loads((tmp_path / "a.json").read_text()) == values


def test_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    for text in ("first", "second"):
        write_text(epath.Path(tmp_path / "a.txt"), text)
        assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
        assert (tmp_path / "a.txt").read_text() == text


def test_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(epath.Path(path), "old " * 10_000)
    with path.open() as reader:
        start = reader.read(4)
        write_text(epath.Path(path), "new")
        assert start + reader.read() == "old " * 10_000
    assert path.read_text() == "new"


def test_write_that_fails_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_text(epath.Path(path), "old")

    def no_room(self: Path, text: str, *arguments: object, **keywords: object) -> int:
        Path(str(self)).write_bytes(text[: len(text) // 2].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(epath.Path(path)), "write_text", no_room)
    with pytest.raises(OSError, match="No space left"):
        write_text(epath.Path(path), "new and longer")
    assert path.read_text() == "old"


def test_values_that_are_no_json_leave_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(epath.Path(path), {"a": 1})
    with pytest.raises(TypeError):
        write_json(epath.Path(path), {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(122, "Disk quota exceeded"), True),
        (ValueError("RESOURCE_EXHAUSTED: No space left on device"), True),
        (OSError(13, "Permission denied"), False),
        (ValueError("no"), False),
        (None, False),
    ],
)
def test_is_disk_full(error: BaseException | None, full: bool) -> None:
    assert is_disk_full(error) == full
