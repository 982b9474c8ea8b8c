"""A run with its files open: what it is, where it goes on from, and where it writes."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.analysis.gradients import gradient_norms
from cnnjax.analysis.subject import Subject
from cnnjax.config import Config, RequestError
from cnnjax.data.streamed import AnyDataset, first_examples
from cnnjax.filters.plan import Flat
from cnnjax.study.files import write_json
from cnnjax.study.records import MetricsFile, Row
from cnnjax.study.workdir import Unit
from cnnjax.train.assembly import Member, best_variables
from cnnjax.train.beginning import sizes_of
from cnnjax.train.checkpoint import Checkpoint, Checkpoints
from cnnjax.train.loop import Plan
from cnnjax.train.optimiser import learning_rate
from cnnjax.train.program import Report
from cnnjax.train.setup import build_model
from cnnjax.train.speed import step_multiply_adds
from cnnjax.train.state import Best, TrainState
from cnnjax.train.step import variables_of

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class OpenRun:
    """A run that is ready to be trained.

    Attributes:
      plan: its member's, no longer than it is wanted.
      saved: None at the start.
      seconds: of `train`, `preparation`, `compilation` and, of streamed data, `data_wait` so far; of runs trained
        together each has its share. Changed as it trains.
    """

    unit: Unit
    config: Config
    dataset: AnyDataset
    member: Member
    plan: Plan
    saved: Checkpoint | None
    checkpoints: Checkpoints
    metrics: MetricsFile
    seconds: dict[str, float]

    @property
    def step(self) -> int:
        """That it goes on from."""
        return self.saved.step if self.saved else 0

    def state(self) -> TrainState:
        """At `step`."""
        return _state_of(self.saved) if self.saved else self.member.state

    def append(self, step: int, split: str, values: Row) -> None:
        """Adds a row to the metrics."""
        epoch = round(step / self.member.steps_per_epoch, 6)
        self.metrics.append({"step": step, "epoch": epoch, "split": split, **values})

    def report(self, step: int, report: Report) -> None:
        """Adds what an evaluation says."""
        rate = learning_rate(self.config.optim, self.member.inputs.numbers, jnp.int32(step - 1))
        extra = {"learning_rate": float(rate), "seconds": self.seconds["train"]}
        self.append(step, "train", {**report.train.metrics(), **extra})
        self.append(step, "validation", report.validation.metrics())

    def save(self, step: int, state: TrainState) -> None:
        """Keeps a state to go on from."""
        streams = self.member.streams
        data = streams.training(step).state() if streams else None
        self.checkpoints.save(step, _items(state, self.member), {"seconds": self.seconds, "data": data})
        write_json(self.unit.folder / "status.json", {"state": "running", "step": step, "steps": self.plan.steps})

    def status(self, state: TrainState, test: dict[str, float] | None, peak: float | None) -> dict[str, Any]:
        """Of a run that has come as far as was wanted.

        Args:
          state: its last one.
          test: its metrics on the test split, if it was read.
          peak: floating-point operations per second that the devices can, if it is known.
        """
        plan = self.plan
        examples = plan.validation[1] - plan.validation[0]
        metrics = {"validation": {"accuracy": int(state.best.correct) / examples}}
        reached = {"step": plan.stop, "steps": plan.steps, "best_step": int(state.best.step)}
        if plan.stop < plan.steps:
            epoch = plan.stop / self.member.steps_per_epoch
            return {"state": "paused", **reached, "epoch": epoch, "metrics": metrics, "seconds": self.seconds}
        return {
            "state": "finished",
            **reached,
            "metrics": {**metrics, **({"test": test} if test else {})},
            **sizes_of(self.member.blueprint),
            "seconds": self.seconds,
            "speed": self._speed(peak),
        }

    def _speed(self, peak: float | None) -> dict[str, float]:
        """Of all its training: images per second, floating-point operations per second (two for each multiply-add of
        `step_multiply_adds`), and their share of the peak. Runs trained together each have that of all."""
        member, seconds = self.member, max(self.seconds["train"], 1e-9)
        after, batch_size = member.task.after, member.task.batch_size
        features = member.inputs.train.images.shape[1:] if after else None
        adds = step_multiply_adds(member.blueprint.model, self.dataset.summary.shape, batch_size, after, features)
        flops = 2 * adds * self.plan.steps / seconds
        speed = {"images_per_second": batch_size * self.plan.steps / seconds, "flops_per_second": flops}
        return speed if peak is None else {**speed, "peak_share": flops / peak}


@contextlib.contextmanager
def opened(
    unit: Unit,
    config: Config,
    dataset: AnyDataset,
    member: Member,
    before: Mapping[str, float],
    until: float | None,
) -> Iterator[OpenRun]:
    """A run with its files open.

    Args:
      before: seconds that its share of what comes before the first step took, `preparation` and `compilation`.
      until: epochs, see `cnnjax.study.run.Extent`.

    Raises:
      RequestError: for a run that was saved with other data.
    """
    plan = member.plan
    if until is not None:
        wanted = until * member.steps_per_epoch
        # Evaluations are at whole steps, half a step at most from where they are wanted.
        plan = dataclasses.replace(plan, stop=min(plan.boundaries, key=lambda step: abs(step - wanted)))
    with contextlib.closing(Checkpoints(unit.folder / "checkpoints")) as checkpoints:
        saved = checkpoints.newest(_items(member.state, member))
        if saved:
            _go_on_reading(member, saved)
            log.info("%s seed %d: going on from step %d", unit.arm, unit.seed, saved.step)
        spent: Mapping[str, float] = saved.progress["seconds"] if saved else {}
        kinds = ("train", *before, *(("data_wait",) if member.streams else ()))
        seconds = {kind: spent.get(kind, 0.0) + before.get(kind, 0.0) for kind in kinds}
        with contextlib.closing(MetricsFile(unit.folder, _last_reported(saved))) as metrics:
            yield OpenRun(unit, config, dataset, member, plan, saved, checkpoints, metrics, seconds)


def _go_on_reading(member: Member, saved: Checkpoint) -> None:
    """Gives the stream of training batches the state that it was saved with."""
    state = saved.progress.get("data")
    if member.streams and state:
        member.streams.restore(state)
    elif member.streams or state:
        was, now = ("in memory", "streamed") if member.streams else ("streamed", "in memory")
        raise RequestError(
            f"config.data: the run was saved with its data {was}; now they are {now}; remove its folder to run it again"
        )


def _last_reported(saved: Checkpoint | None) -> int:
    """The last step whose rows of the metrics stay; those of one that is still to be evaluated will come again."""
    if saved is None:
        return -1
    return saved.step - 1 if int(_state_of(saved).sums.examples) else saved.step


def gradients_function(run: OpenRun) -> Callable[[Flat, Flat], Row]:
    """The measure `gradients` of variables on their way: `gradient_norm/<path>` of each kernel."""
    summary, settings = run.dataset.summary, run.config.measures
    model = build_model(run.config.model, summary)
    images, labels = first_examples(run.dataset.train, settings.images, run.config.data.memory)
    key = jax.random.key(run.unit.seed)

    def measure(params: Flat, stats: Flat) -> Row:
        variables = variables_of(*jax.device_get((params, stats)))
        subject = Subject(model, variables, summary.mean, summary.std, summary.low, summary.high)
        found = gradient_norms(
            subject,
            images,
            labels,
            key=key,
            label_smoothing=run.config.optim.label_smoothing,
            batch_size=settings.batch_size,
        )
        return {f"{it.metric}/{it.stage}": it.value for it in found if it.metric == "gradient_norm"}

    return measure


def _items(state: TrainState, member: Member) -> dict[str, Any]:
    """What a checkpoint holds: `best`, all variables of the best evaluation, and `state`, the rest of the state."""
    scores = {"correct": state.best.correct, "step": state.best.step}
    return {
        "best": best_variables(state, member.inputs.frozen),
        "state": {**state._asdict(), "best": scores},
    }


def _state_of(saved: Checkpoint) -> TrainState:
    """The state that `_items` took apart."""
    values, variables = saved.items["state"], saved.items["best"]
    trained = {path: variables["params"][path] for path in values["trained"]}
    stats = {path: variables["batch_stats"][path] for path in values["stats"]}
    return TrainState(**{**values, "best": Best(trained, stats, **values["best"])})
