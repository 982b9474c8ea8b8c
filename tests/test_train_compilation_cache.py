"""The persistent compilation cache: on by default, where nobody chose otherwise."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from cnnjax.train.compilation_cache import keep_compilations

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_folder_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_compilations()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cnnjax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/somewhere")
    jax.config.update("jax_compilation_cache_dir", None)
    keep_compilations()
    assert jax.config.jax_compilation_cache_dir == "/somewhere/.cache/cnnjax"


def test_the_users_own_choice_wins() -> None:
    jax.config.update("jax_compilation_cache_dir", "/elsewhere")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 7.0)
    keep_compilations()
    assert [getattr(jax.config, name) for name in SETTINGS] == ["/elsewhere", 7.0]
