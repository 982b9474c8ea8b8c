"""Which engine the flags name, what does not go together, and what is left to workers on this machine."""

import importlib.util
import os

import jax
import pytest

from cnnjax.config import RequestError
from cnnjax.study.engine import share_devices
from cnnjax.study.request import EngineFlags

PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = EngineFlags("ray")
    flags.check(many_hosts=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"Ray is not installed; pip install 'cnnjax\[ray\]'"):
        flags.check(many_hosts=False)


@pytest.mark.parametrize("flag", ["cluster", "cpus", "gpus", "tpus", "retries"])
def test_flags_of_ray_without_it(flag: str) -> None:
    with pytest.raises(RequestError, match=f"--{flag}: needs --engine=ray"):
        EngineFlags(**{flag: 7}).check(many_hosts=False)


def test_what_a_node_must_have() -> None:
    assert EngineFlags("ray", cpus=4, gpus=0.5).resources() == {"CPU": 4, "GPU": 0.5}


@pytest.mark.parametrize(
    ("engine", "asked", "opened"),
    [("ray", None, ["false"]), ("ray", "true", []), ("local", None, [])],
    ids=["by Ray", "as the user says", "here"],
)
def test_memory_of_a_gpu_is_left_to_the_workers_on_it(
    engine: str, asked: str | None, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PREALLOCATE, raising=False)
    if asked is not None:
        monkeypatch.setenv(PREALLOCATE, asked)
    found: list[str | None] = []
    monkeypatch.setattr(jax, "devices", lambda: found.append(os.environ.get(PREALLOCATE)))
    share_devices(EngineFlags(engine))
    assert found == opened
    assert os.environ.get(PREALLOCATE) == asked  # what is begun from here does not take it over
