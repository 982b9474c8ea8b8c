"""Which engine the flags name, and what does not go together."""

import importlib.util

import pytest

from cnnjax.config import RequestError
from cnnjax.study.request import EngineFlags


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
