"""One run of a study, from its config to its finished status, going on from where it was."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

import jax
from etils import epath

from cnnjax.analysis.gradients import gradient_norms
from cnnjax.analysis.subject import Subject
from cnnjax.config import Config, to_dict
from cnnjax.data.dataset import Dataset
from cnnjax.filters.plan import Flat
from cnnjax.filters.saved import Saved
from cnnjax.study.files import write_json
from cnnjax.study.progress import StudyProgress
from cnnjax.study.records import MetricsFile, Row
from cnnjax.study.sources import read_sources
from cnnjax.study.workdir import FORMAT, Unit
from cnnjax.train.assembly import Assembly, Shared, assemble, begin, best_variables, sizes_of
from cnnjax.train.checkpoint import Checkpoint, Checkpoints
from cnnjax.train.devices import replicate
from cnnjax.train.head import fit_head
from cnnjax.train.interruption import Interruption, Stopped
from cnnjax.train.loop import Diverged, Listeners, evaluate, fit
from cnnjax.train.optimiser import make_schedule
from cnnjax.train.program import Report
from cnnjax.train.setup import build_model
from cnnjax.train.state import Best, TrainState
from cnnjax.train.step import variables_of

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
    dataset: Dataset
    assembly: Assembly
    preparation: float
    saved: Checkpoint | None
    checkpoints: Checkpoints
    metrics: MetricsFile


def run_unit(
    unit: Unit,
    config: Config,
    dataset: Dataset,
    shared: Shared,
    folder: epath.Path,
    progress: StudyProgress,
    interruption: Interruption,
) -> None:
    """Trains a run to its end and writes its status, its metrics and its checkpoints into its folder.

    Args:
      unit: arm, seed and folder.
      config: of the arm.
      dataset: the config's.
      shared: of the study; added to.
      folder: of the study.
      progress: told how far it is.
      interruption: looked at between dispatches.

    Raises:
      Diverged: if the loss stops being finite.
      Stopped: after a signal, once the state is saved.
    """
    unit.folder.mkdir(parents=True, exist_ok=True)
    about = {"arm": unit.arm, "seed": unit.seed, "dataset": dataclasses.asdict(dataset.summary)}
    write_json(unit.folder / "config.json", {"format": FORMAT, "config": to_dict(config), **about})
    write_json(unit.folder / "status.json", {"state": "running"})
    with interruption.nothing_to_save():
        sources = read_sources(config.filters, config.model.name, unit.seed, folder)
    if config.head.name == "sgd":
        finished = _run_steps(unit, config, dataset, shared, sources, progress, interruption)
    else:
        with interruption.nothing_to_save():
            finished = _run_head(unit, config, dataset, shared, sources, progress, interruption)
    write_json(unit.folder / "status.json", finished)


def _run_steps(
    unit: Unit,
    config: Config,
    dataset: Dataset,
    shared: Shared,
    sources: Saved,
    progress: StudyProgress,
    interruption: Interruption,
) -> dict[str, Any]:
    """Trains step by step, and returns the finished status."""
    with interruption.nothing_to_save():
        started = time.monotonic()
        assembly = assemble(config, dataset, unit.seed, shared, interruption, sources, progress.prepare)
        preparation = time.monotonic() - started
        checkpoints = Checkpoints(unit.folder / "checkpoints")
        saved = checkpoints.newest(_items(assembly.state, assembly))
    if saved:
        log.info("%s seed %d: going on from step %d", unit.arm, unit.seed, saved.step)
    metrics = MetricsFile(unit.folder, saved.step if saved else -1)
    with contextlib.closing(metrics), contextlib.closing(checkpoints):
        run = _Run(unit, config, dataset, assembly, preparation, saved, checkpoints, metrics)
        return _train(run, progress, interruption)


def _run_head(
    unit: Unit,
    config: Config,
    dataset: Dataset,
    shared: Shared,
    sources: Saved,
    progress: StudyProgress,
    interruption: Interruption,
) -> dict[str, Any]:
    """Finds the head in closed form on the features below it, and returns the finished status.

    It takes one piece: a run that was cut off begins anew, on features that may be there already.
    """
    started = time.monotonic()
    beginning = begin(config, dataset, unit.seed, shared, interruption, sources, progress.prepare, to_disk=True)
    preparation = time.monotonic() - started
    try:
        fitted = fit_head(config.head, beginning, dataset.summary, interruption)
    except FloatingPointError as error:
        raise Diverged(str(error)) from None
    seconds = {"train": time.monotonic() - started - preparation, "preparation": preparation}
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
        "metrics": {split: fitted.metrics[split] for split in ("validation", "test")},
        **sizes_of(beginning.blueprint),
        "seconds": seconds,
    }


def _train(run: _Run, progress: StudyProgress, interruption: Interruption) -> dict[str, Any]:
    """Trains from what was saved to the end, reads the test split once, and returns the finished status."""
    assembly, saved = run.assembly, run.saved
    plan, inputs = assembly.plan, assembly.inputs
    step = saved.step if saved else 0
    state = replicate(_state_of(saved)) if saved else assembly.state
    seconds = {"train": saved.progress["seconds"]["train"] if saved else 0.0, "preparation": run.preparation}
    rate = make_schedule(run.config.optim, plan.steps)

    def about_step(step: int) -> Row:
        return {"step": step, "epoch": round(step / assembly.steps_per_epoch, 6)}

    gradients = _gradients_function(run) if "gradients" in run.config.measures.names else None

    def on_evaluated(step: int, params: Flat, stats: Flat) -> None:
        if gradients:
            run.metrics.append({**about_step(step), "split": "train", **gradients(params, stats)})

    def on_report(step: int, report: Report) -> None:
        about = about_step(step)
        extra = {"learning_rate": float(rate(step - 1)), "seconds": seconds["train"]}
        run.metrics.append({**about, "split": "train", **report.train.metrics(), **extra})
        run.metrics.append({**about, "split": "validation", **report.validation.metrics()})

    def on_save(step: int, state: TrainState) -> None:
        run.checkpoints.save(step, _items(state, assembly), {"seconds": seconds})
        write_json(run.unit.folder / "status.json", {"state": "running", "step": step, "steps": plan.steps})

    def advance(step: int, taken: float) -> None:
        seconds["train"] += taken
        progress.advance(step / plan.steps)

    if saved is None:
        on_evaluated(0, {**inputs.frozen[0], **state.trained}, {**inputs.frozen[1], **state.stats})
    listeners = Listeners(on_evaluated, on_report, on_save, advance)
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
        **sizes_of(assembly.blueprint),
        "seconds": seconds,
    }


def _gradients_function(run: _Run) -> Callable[[Flat, Flat], Row]:
    """The measure `gradients` of variables on their way: `gradient_norm/<path>` of each kernel."""
    summary, settings = run.dataset.summary, run.config.measures
    model = build_model(run.config.model, summary)
    images, labels = run.dataset.train.images[: settings.images], run.dataset.train.labels[: settings.images]
    key = jax.random.key(run.unit.seed)

    def measure(params: Flat, stats: Flat) -> Row:
        variables = variables_of(*jax.device_get((params, stats)))
        subject = Subject(model, variables, summary.mean, summary.std, summary.low, summary.high)
        found = gradient_norms(subject, images, labels, key=key, batch_size=settings.batch_size)
        return {f"{it.metric}/{it.stage}": it.value for it in found if it.metric == "gradient_norm"}

    return measure


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
