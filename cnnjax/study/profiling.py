"""A trace of what the devices do while the first run trains."""

import contextlib
import logging
import time
from collections.abc import Iterator

import jax
from etils import epath

log = logging.getLogger(__name__)

_SECONDS = 2.0


class Profile:
    """Traces about two seconds of training, once: of the first run that trains, from its first dispatch on.

    The trace lies in `profile/plugins/profile/DATE/`, for TensorBoard's profile plugin (`*.xplane.pb`) and for Perfetto
    (`perfetto_trace.json.gz`, opened at ui.perfetto.dev).

    Args:
      folder: of the study, on this machine.
    """

    def __init__(self, folder: epath.Path) -> None:
        self._folder = folder / "profile"
        self._since: float | None = None
        self._done = False

    @contextlib.contextmanager
    def traced(self) -> Iterator[None]:
        """While a run trains."""
        if not self._done:
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._since = time.monotonic()
        try:
            yield
        finally:
            self._stop()

    def advance(self) -> None:
        """A dispatch has ended."""
        if self._since is not None and time.monotonic() - self._since >= _SECONDS:
            self._stop()

    def _stop(self) -> None:
        if self._since is not None:
            jax.profiler.stop_trace()
            self._since, self._done = None, True
            log.info("a trace of the devices is in %s", self._folder)
