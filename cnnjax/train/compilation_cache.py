"""Compiled programs are kept on disk, so that what was compiled once starts at once the next time."""

import os
from pathlib import Path

import jax

_SHORTEST_COMPILATION = 0.2  # seconds; a shorter one is not worth a file


def keep_compilations() -> None:
    """Switches JAX's persistent compilation cache on, in `compilation_folder()`.

    JAX's own settings win: with `JAX_COMPILATION_CACHE_DIR` set its folder is used, and
    `JAX_ENABLE_COMPILATION_CACHE=false` switches it off.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", compilation_folder())
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _SHORTEST_COMPILATION)


def compilation_folder() -> str:
    """JAX's own setting, or `$XDG_CACHE_HOME/cnnjax`, or `~/.cache/cnnjax`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return jax.config.jax_compilation_cache_dir or str(Path(home) / "cnnjax")  # type: ignore[attr-defined]
