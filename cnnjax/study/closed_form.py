"""One run of a study whose head is found in closed form, or to convergence, on frozen features."""

import contextlib
import logging
import time
from typing import Any

from cnnjax.config import Config
from cnnjax.data.streamed import AnyDataset
from cnnjax.filters.saved import Saved
from cnnjax.study.progress import PackProgress
from cnnjax.study.records import MetricsFile
from cnnjax.study.workdir import Unit
from cnnjax.train.beginning import Shared, begin, sizes_of
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.head import fit_head
from cnnjax.train.interruption import Interruption

log = logging.getLogger(__name__)


def run_head(
    unit: Unit,
    config: Config,
    dataset: AnyDataset,
    shared: Shared,
    sources: Saved,
    progress: PackProgress,
    interruption: Interruption,
    test: bool,
) -> dict[str, Any]:
    """Finds the head on the features below it, writes its metrics and checkpoint, and returns the finished status.

    It takes one piece: a run that was cut off begins anew, on features that may be there already. Without `test` the
    status says nothing of the test split.

    Raises:
      FloatingPointError: if it diverges.
    """
    started = time.monotonic()
    beginning = begin(config, dataset, unit.seed, shared, interruption, sources, progress.prepare)
    preparation = time.monotonic() - started
    fitted = fit_head(config.head, beginning, dataset.summary, interruption)
    seconds = {"train": time.monotonic() - started - preparation, "preparation": preparation}
    if fitted.warning:
        log.warning("%s seed %d: %s", unit.arm, unit.seed, fitted.warning)
    with contextlib.closing(MetricsFile(unit.folder, -1)) as metrics:
        for number, trial in enumerate(fitted.trials):
            metrics.append({"step": number, "split": "validation", **trial})
        metrics.append({"step": len(fitted.trials), "split": "train", **fitted.metrics["train"]})
    with contextlib.closing(Checkpoints(unit.folder / "checkpoints")) as checkpoints:
        best = {"params": fitted.params, "batch_stats": beginning.stats}
        checkpoints.save(0, {"best": best}, {"seconds": seconds})
    return {
        "state": "finished",
        "step": 0,
        "steps": 0,
        "best_step": 0,
        "strength": fitted.strength,
        **({"warning": fitted.warning} if fitted.warning else {}),
        "metrics": {split: fitted.metrics[split] for split in (("validation", "test") if test else ("validation",))},
        **sizes_of(beginning.blueprint),
        "seconds": seconds,
    }
