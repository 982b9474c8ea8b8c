"""The house of the design: which room may import which, and what lies at the top of the repository."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import cnnjax

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("ops", "layers", "models", "data", "filters", "train", "analysis", "study")
MODULES = sorted((ROOT / "cnnjax").rglob("*.py"))
TOP_LEVEL = {
    "pyproject.toml",
    "cnnjax",
    "experiments",
    "launch.py",
    "tests",
    "README.md",
    ".ci",
    "LICENSE",
    ".gitignore",
}


def imported_names(source: str, package: str) -> Iterator[str]:
    """The full dotted name of everything that a module in `package` imports, at any depth of its code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> list[str]:
    """What the file imports."""
    package = ".".join(path.parent.relative_to(ROOT).parts)
    return list(imported_names(path.read_text(), package))


def rooms_imported(names: list[str]) -> set[str]:
    """The second part of each name that starts with `cnnjax`; empty text for the package itself."""
    parts = [name.split(".") for name in names]
    return {(*name, "")[1] for name in parts if name[0] == "cnnjax"}


def test_every_form_of_import_is_seen() -> None:
    source = """
import numpy as np, cnnjax.study.run
from cnnjax import train
from cnnjax.data.feed import Feed, standardise
from . import sibling
from ..models.network import Network
def late():
    import cnnjax
"""
    names = list(imported_names(source, "cnnjax.layers"))
    assert set(names) == {
        "numpy",
        "cnnjax.study.run",
        "cnnjax.train",
        "cnnjax.data.feed.Feed",
        "cnnjax.data.feed.standardise",
        "cnnjax.layers.sibling",
        "cnnjax.models.network.Network",
        "cnnjax",
    }
    assert rooms_imported(names) == {"study", "train", "data", "layers", "models", ""}


def test_every_package_is_a_room() -> None:
    packages = {path.relative_to(ROOT / "cnnjax").parts[0] for path in MODULES if path.parent.name != "cnnjax"}
    files = {path.name for path in MODULES if path.parent.name == "cnnjax"}
    assert packages == {*ROOMS, "config"}
    assert files == {"__init__.py"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_rooms_below_it(room: str) -> None:
    allowed = {*ROOMS[: ROOMS.index(room) + 1], "config"}
    inside = [path for path in MODULES if path.relative_to(ROOT / "cnnjax").parts[0] == room]
    wrong = {str(path.relative_to(ROOT)): rooms_imported(imports_of(path)) - allowed for path in inside}
    assert {path: rooms for path, rooms in wrong.items() if rooms} == {}


def test_config_imports_no_room() -> None:
    modules = sorted((ROOT / "cnnjax" / "config").glob("*.py"))
    assert modules
    assert {room for path in modules for room in rooms_imported(imports_of(path))} == {"config"}


def test_tensorflow_is_never_imported() -> None:
    sources = [*MODULES, ROOT / "launch.py", *sorted((ROOT / "experiments").rglob("*.py"))]
    wrong = [
        str(path.relative_to(ROOT))
        for path in sources
        if any(name.split(".")[0] == "tensorflow" for name in imports_of(path))
    ]
    assert wrong == []


def test_top_level_of_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    found = {path.split("/")[0] for path in listed.stdout.splitlines()}
    assert "cnnjax" in found
    assert found - TOP_LEVEL == set()


def test_rooms_are_there_for_whoever_imports_the_package_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnjax.analysis import confusion

    monkeypatch.delattr(cnnjax.analysis, "confusion")
    monkeypatch.delattr(cnnjax, "analysis")
    assert cnnjax.analysis.confusion is confusion
    for module in (cnnjax, cnnjax.analysis):
        with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'nothing'"):
            _ = module.nothing
