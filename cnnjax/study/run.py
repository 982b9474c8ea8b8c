"""One run of a study, from its config to its finished status, going on from where it was."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

import jax

from cnnjax.config import Config, to_dict
from cnnjax.data.dataset import Dataset
from cnnjax.study.files import write_json
from cnnjax.study.records import MetricsFile
from cnnjax.study.workdir import Unit
from cnnjax.train.assembly import Assembly, Compiled, assemble, best_variables
from cnnjax.train.checkpoint import Checkpoint, Checkpoints
from cnnjax.train.devices import replicate
from cnnjax.train.interruption import Interruption, Stopped
from cnnjax.train.loop import Listeners, evaluate, fit
from cnnjax.train.optimiser import make_schedule
from cnnjax.train.program import Report
from cnnjax.train.state import Best, TrainState

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Run:
    """A run that is ready to be trained: what it is, where it goes on from, and where it writes.

    Attributes:
      preparation: seconds that it took to get here.
      saved: None at the start.
    """

    unit: Unit
    config: Config
    assembly: Assembly
    preparation: float
    saved: Checkpoint | None
    checkpoints: Checkpoints
    metrics: MetricsFile


def run_unit(
    unit: Unit,
    config: Config,
    dataset: Dataset,
    compiled: Compiled,
    on_progress: Callable[[float], None],
    interruption: Interruption,
) -> None:
    """Trains a run to its end and writes its status, its metrics and its checkpoints into its folder.

    Args:
      unit: arm, seed and folder.
      config: of the arm.
      dataset: the config's.
      compiled: of the study; added to.
      on_progress: told the share of the steps that is done, in [0, 1].
      interruption: looked at between dispatches.

    Raises:
      Diverged: if the loss stops being finite.
      Stopped: after a signal, once the state is saved.
    """
    unit.folder.mkdir(parents=True, exist_ok=True)
    about = {"arm": unit.arm, "seed": unit.seed, "dataset": dataclasses.asdict(dataset.summary)}
    write_json(unit.folder / "config.json", {"config": to_dict(config), **about})
    write_json(unit.folder / "status.json", {"state": "running"})
    with interruption.nothing_to_save():
        started = time.monotonic()
        assembly = assemble(config, dataset, unit.seed, compiled, interruption)
        preparation = time.monotonic() - started
        checkpoints = Checkpoints(unit.folder / "checkpoints")
        saved = checkpoints.newest(_items(assembly.state, assembly))
    if saved:
        log.info("%s seed %d: going on from step %d", unit.arm, unit.seed, saved.step)
    metrics = MetricsFile(unit.folder, saved.step if saved else 0)
    with contextlib.closing(metrics), contextlib.closing(checkpoints):
        run = _Run(unit, config, assembly, preparation, saved, checkpoints, metrics)
        finished = _train(run, on_progress, interruption)
    write_json(unit.folder / "status.json", finished)


def _train(run: _Run, on_progress: Callable[[float], None], interruption: Interruption) -> dict[str, Any]:
    """Trains from what was saved to the end, reads the test split once, and returns the finished status."""
    assembly, saved = run.assembly, run.saved
    plan, inputs = assembly.plan, assembly.inputs
    step = saved.step if saved else 0
    state = replicate(_state_of(saved)) if saved else assembly.state
    seconds = {"train": saved.progress["seconds"]["train"] if saved else 0.0, "preparation": run.preparation}
    rate = make_schedule(run.config.optim, plan.steps)

    def on_report(step: int, report: Report) -> None:
        about = {"step": step, "epoch": round(step / assembly.steps_per_epoch, 6)}
        extra = {"learning_rate": float(rate(step - 1)), "seconds": seconds["train"]}
        run.metrics.append({**about, "split": "train", **report.train.metrics(), **extra})
        run.metrics.append({**about, "split": "validation", **report.validation.metrics()})

    def on_save(step: int, state: TrainState) -> None:
        run.checkpoints.save(step, _items(state, assembly), {"seconds": seconds})
        write_json(run.unit.folder / "status.json", {"state": "running", "step": step, "steps": plan.steps})

    def advance(step: int, taken: float) -> None:
        seconds["train"] += taken
        on_progress(step / plan.steps)

    listeners = Listeners(on_report, on_save, advance)
    state = fit(assembly.program, state, step, inputs, plan, listeners, interruption)
    best = best_variables(state, inputs.frozen)
    params, stats = best["params"], best["batch_stats"]
    test = evaluate(assembly.program, params, stats, inputs.held_out, plan.test, plan, interruption)
    if test is None:
        raise Stopped
    return {
        "state": "finished",
        "step": plan.steps,
        "steps": plan.steps,
        "best_step": int(state.best.step),
        "metrics": {
            "validation": {"accuracy": int(state.best.correct) / (plan.validation[1] - plan.validation[0])},
            "test": jax.device_get(test).metrics(),
        },
        "parameters": assembly.parameters,
        "parameters_trained": assembly.parameters_trained,
        "seconds": seconds,
    }


def _items(state: TrainState, assembly: Assembly) -> dict[str, Any]:
    """What a checkpoint holds: `best`, all variables of the best evaluation, and `state`, the rest of the state."""
    scores = {"correct": state.best.correct, "step": state.best.step}
    return {
        "best": best_variables(state, assembly.inputs.frozen),
        "state": {**state._asdict(), "best": scores},
    }


def _state_of(saved: Checkpoint) -> TrainState:
    """The state that `_items` took apart."""
    values, variables = saved.items["state"], saved.items["best"]
    trained = {path: variables["params"][path] for path in values["trained"]}
    stats = {path: variables["batch_stats"][path] for path in values["stats"]}
    return TrainState(**{**values, "best": Best(trained, stats, **values["best"])})
