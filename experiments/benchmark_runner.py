"""The parts of the benchmark that are about runs and their runner; see `benchmark.py`."""

import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
from etils import epath
from rich.console import Console

from cnnjax.config import Config, DataConfig, ModelConfig, OptimConfig, StudyConfig, TrainConfig
from cnnjax.data.dataset import Dataset, load_dataset
from cnnjax.study.experiment import Experiment
from cnnjax.study.runner import run_study
from cnnjax.study.workdir import Study, read_status, write_study
from cnnjax.train.assembly import Assembly, assemble, assemble_alone, assemble_together, make_member
from cnnjax.train.beginning import Shared
from cnnjax.train.interruption import Interruption
from cnnjax.train.loop import evaluate
from cnnjax.train.population import Form

HERE = Path(__file__).parent
MEMBERS = 16
FORMS: tuple[Form, ...] = ("map", "vmap")
START_SECONDS = 6.0

# Prints the time when the first training step is done, and leaves.
FIRST_STEP = """
import dataclasses, os, sys, time
from cnnjax.study import run
from launch import main

fit = run.fit

def fit_and_tell(program, *arguments):
    def train(state, inputs, steps):
        state = program.train(state, inputs, [1] * len(steps))
        state.step.block_until_ready()
        print("first step", time.time(), flush=True)
        os._exit(0)
    return fit(dataclasses.replace(program, train=train), *arguments)

run.fit = fit_and_tell
main(["launch.py", *sys.argv[1:]])
"""

EXPERIMENT = "from benchmark_runner import lenet5\n\ndef get_config():\n    return lenet5({})\n"


def lenet5(batch_size: int, epochs: float = 1000) -> Config:
    """What all parts train."""
    return Config(
        model=ModelConfig("lenet5"),
        data=DataConfig(name="mnist_5k"),
        optim=OptimConfig(lr=0.01, schedule="constant"),
        train=TrainConfig(epochs=epochs, batch_size=batch_size, eval_every=epochs),
        study=StudyConfig(seeds=1, pack=1),
    )


def seconds(turn: Callable[[], None]) -> float:
    """How long a turn takes."""
    started = time.perf_counter()
    turn()
    return time.perf_counter() - started


def told(ratios: list[float]) -> str:
    """Their median, and their range."""
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def population(rounds: int, steps: int, batch_size: int) -> None:
    """Images a second of 16 runs together, in either form, over those of the same 16 one after another."""
    config = lenet5(batch_size)
    dataset, shared = load_dataset(config.data), Shared()
    alone = [make_member(config, dataset, seed, shared, Interruption()) for seed in range(MEMBERS)]
    turns = {"alone": [assembled_turn(assemble_alone(member, shared), steps) for member in alone]}
    turns |= {form: [assembled_turn(assemble_population(MEMBERS, form, config, dataset), steps)] for form in FORMS}
    rounds_taken = [{side: sum(map(seconds, each)) for side, each in turns.items()} for _ in range(rounds + 1)][1:]
    for form in FORMS:
        rate = MEMBERS * steps * batch_size / statistics.median(taken[form] for taken in rounds_taken)
        ratio = told([taken["alone"] / taken[form] for taken in rounds_taken])
        print(f"population: {MEMBERS} lenet5 together ({form}) {rate:.0f} images/s, ratio {ratio} to one by one")


def assemble_population(members: int, form: Form, config: Config, dataset: Dataset) -> Assembly:
    """Runs of so many seeds, together."""
    shared = Shared()
    runs = [make_member(config, dataset, seed, shared, Interruption(), axis=None) for seed in range(members)]
    return assemble_together(runs, form, shared)


def assembled_turn(run: Assembly, steps: int) -> Callable[[], None]:
    """So many steps in one dispatch, as in a run."""
    state = [run.state]

    def turn() -> None:
        state[0] = run.program.train(state[0], run.inputs, [steps] * len(run.members))
        jax.block_until_ready(state[0].step)

    return turn


def overhead(rounds: int, steps: int, batch_size: int) -> None:
    """Seconds of a run from its first step to its status, over those of its steps and evaluations alone."""
    config = lenet5(batch_size)
    dataset = load_dataset(config.data)
    per_epoch = dataset.summary.sizes["train"] // batch_size
    config = lenet5(batch_size, epochs=20 * steps / per_epoch)
    bare = assemble(config, dataset, 0, Shared(), Interruption())
    ratios = []
    for number in range(rounds + 1):
        taken = seconds(lambda: bare_loop(bare)), run_seconds(config, dataset)
        if number:
            ratios.append(taken[1] / taken[0])
    print(f"overhead: lenet5 for {bare.plans[0].steps} steps, a run is {told(ratios)} of its bare loop")


def bare_loop(run: Assembly) -> None:
    """The steps in one dispatch, and both evaluations."""
    plan, program = run.plans[0], run.program
    state = jax.tree.map(lambda leaf: leaf.copy(), run.state)
    state = program.train(state, run.inputs, [plan.steps])
    params, stats = {**run.inputs.frozen[0], **state.trained}, {**run.inputs.frozen[1], **state.stats}
    for split in (plan.validation, plan.test):
        jax.block_until_ready(evaluate(program, 1, params, stats, run.inputs.held_out, split, plan, Interruption()))


def run_seconds(config: Config, dataset: Dataset) -> float:
    """Of a study of one run, but for what it prepares and compiles before its first step."""
    with tempfile.TemporaryDirectory() as folder:
        study = Study(epath.Path(folder) / "study", Experiment("overhead", "", {"only": config}), 1)
        write_study(study)
        started = time.perf_counter()
        run_study(study, study.units, {config.data: dataset}, Console(file=io.StringIO()), Interruption())
        taken = time.perf_counter() - started
        spent = read_status(study.units[0])["seconds"]
        return taken - spent["preparation"] - spent["compilation"]


def start(rounds: int, steps: int, batch_size: int) -> None:
    """Seconds from the command to the end of the first step, over those that are asked."""
    times = []
    for number in range(max(2, rounds // 2)):
        with tempfile.TemporaryDirectory() as folder:
            experiment = Path(folder) / "lenet5.py"
            experiment.write_text(EXPERIMENT.format(batch_size))
            flags = [f"--config={experiment}", f"--workdir={folder}/study"]
            code = f"import sys; sys.path[:0] = {[str(HERE), str(HERE.parent)]}\n{FIRST_STEP}"
            began = time.time()
            done = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, check=False)
        told_at = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("first step")]
        if not told_at:
            raise RuntimeError(f"no step was taken: {done.stderr}")
        if number:
            times.append(float(told_at[0]) - began)
    ratios = told([taken / START_SECONDS for taken in times])
    print(f"start: lenet5's first step after {statistics.median(times):.1f} s, {ratios} of {START_SECONDS:g} s")


def memory(rounds: int, steps: int, batch_size: int) -> None:
    """Bytes of a device for 4, 8 and 16 runs, and the first over what the line through the other two says."""
    config = lenet5(batch_size)
    dataset = load_dataset(config.data)
    for form in FORMS:
        sizes = {n: assemble_population(n, form, config, dataset).program.train_bytes for n in (4, 8, 16)}
        each = (sizes[16] - sizes[8]) / 8
        fixed = sizes[16] - 16 * each
        said = ", ".join(f"{n} runs {size / 1e6:.1f} MB" for n, size in sizes.items())
        print(
            f"memory: lenet5 together ({form}), {said}: {each / 1e6:.2f} MB for each and {fixed / 1e6:.1f} MB for all; "
            f"ratio of 4 runs to this line {sizes[4] / (fixed + 4 * each):.2f}"
        )
