"""The trace that --profile leaves, and of which run."""

from pathlib import Path

import jax
import pytest
from etils import epath

from cnnjax.study import profiling
from cnnjax.study.profiling import Profile
from launch import main
from tests.launching import EXPERIMENT


def test_first_run_alone_is_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder, **_: called.append(f"start {Path(folder).name}"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: called.append("stop"))
    now = [0.0]
    monkeypatch.setattr(profiling.time, "monotonic", lambda: now[0])
    profile = Profile(epath.Path(tmp_path))
    with profile.traced():
        profile.advance()
        assert called == ["start profile"]
        now[0] = 2.5
        profile.advance()
        assert called == ["start profile", "stop"]
        profile.advance()
    with profile.traced():
        profile.advance()
    assert called == ["start profile", "stop"]


def test_trace_of_a_run_that_is_over_sooner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        f"--config={EXPERIMENT}",
        f"--workdir={tmp_path}",
        "--arms=learned",
        "--config.train.epochs=1",
        "--profile",
    ]
    assert main(["launch.py", *flags]) == 0
    (trace,) = (tmp_path / "profile" / "plugins" / "profile").iterdir()
    assert {"perfetto_trace.json.gz"} < {path.name for path in trace.iterdir()}
    assert list(trace.glob("*.xplane.pb"))
