"""Runs with filters from elsewhere or a head in closed form, from their configs to what is loaded."""

import contextlib
import functools
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath
from rich.console import Console

import cnnjax
from cnnjax.analysis.gradients import gradient_norms
from cnnjax.config import Config, DataConfig, ModelConfig, OptimConfig, TrainConfig, override
from cnnjax.data.dataset import Dataset
from cnnjax.filters.plan import flatten
from cnnjax.study import closed_form
from cnnjax.study.experiment import Experiment
from cnnjax.study.feature_files import FileStore
from cnnjax.study.results import SPEED_HEADINGS, collect, speed_rows, troubles, warnings
from cnnjax.study.results_page import study_block
from cnnjax.study.run import speed_text
from cnnjax.study.runner import run_study
from cnnjax.study.workdir import Study, Unit, read_status
from cnnjax.train import assembly, beginning, head
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.interruption import Interruption
from cnnjax.train.setup import make_blueprint

LEARNED = Config(
    model=ModelConfig(name="convnet", width=2, depth=1, kernel_size=3, norm="batch"),
    data=DataConfig(name="toy"),
    optim=OptimConfig(name="adam", lr=0.05, weight_decay=0.1),
    train=TrainConfig(epochs=2, batch_size=8, eval_batch_size=8, save_every=1e9),
)
TAKEN = "stage1/.*=arm:learned,frozen;head/.*=init,trained"


@contextlib.contextmanager
def counted() -> Iterator[list[int]]:
    """How many images each computation of features was for."""
    calls: list[int] = []
    compute = beginning.compute_features

    def count(function: Any, variables: Any, images: np.ndarray, *rest: Any) -> None:
        calls.append(len(images))
        compute(function, variables, images, *rest)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(beginning, "compute_features", count)
        yield calls


def run(study: Study, toy: Dataset, units: list[Unit] | None = None) -> None:
    datasets = dict.fromkeys((config.data for config in study.experiment.arms.values()), toy)
    run_study(study, study.units if units is None else units, datasets, Console(file=io.StringIO()), Interruption())
    states = {(unit.arm, unit.seed): read_status(unit) for unit in study.units}
    assert {name: status for name, status in states.items() if status["state"] != "finished"} == {}


@pytest.fixture(scope="module")
def study(toy: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, list[int]]:
    """A study of two seeds, and the computations of features that it took."""
    folder = epath.Path(tmp_path_factory.mktemp("sources") / "study")
    combined = ".*/conv/kernel=he,frozen,3;(.*norm|head)/.*=init,trained"
    one = f"stage1/.*=checkpoint:{folder}/runs/learned/seed0,frozen;head/.*=init,trained"
    arms = {
        "learned": LEARNED,
        "taken": override(LEARNED, {"filters": TAKEN}),
        "shifted": override(LEARNED, {"filters": TAKEN, "data.augment": "shift"}),
        "ridge": override(LEARNED, {"filters": TAKEN, "head.name": "ridge"}),
        "logistic": override(LEARNED, {"filters": TAKEN, "head.name": "logistic", "head.strengths": "1e-3,1e-1"}),
        "one": override(LEARNED, {"filters": one, "head.name": "ridge"}),
        "combined": override(LEARNED, {"filters": combined, "measures.names": "gradients", "measures.images": "20"}),
    }
    made = Study(folder, Experiment("sources", "Where from?", arms), 2)
    with counted() as calls:
        run(made, toy)
    return made, calls


def variables_of(study: Study, arm: str, seed: int) -> dict[str, np.ndarray]:
    """Parameters and statistics by path, as they are loaded."""
    variables = cnnjax.load(study.folder / "runs" / arm / f"seed{seed}").variables
    return {
        path: np.asarray(array)
        for name in ("params", "batch_stats")
        for path, array in flatten(variables[name]).items()
    }


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("arm", ["taken", "shifted", "ridge", "logistic", "one"])
def test_frozen_filters_and_statistics_from_another_run_are_bit_identical(
    study: tuple[Study, list[int]], arm: str, seed: int
) -> None:
    source = variables_of(study[0], "learned", 0 if arm == "one" else seed)
    found = variables_of(study[0], arm, seed)
    assert found.keys() == source.keys()
    stage = [path for path in found if path.startswith("stage1/")]
    assert len(stage) == 5  # kernel, scale, bias, mean and variance
    for path in stage:
        assert found[path].tobytes() == source[path].tobytes(), path
    assert (found["head/layer/kernel"] != source["head/layer/kernel"]).any()


def test_statistics_of_what_was_learned_did_move(study: tuple[Study, list[int]]) -> None:
    found = variables_of(study[0], "learned", 0)
    assert (found["stage1/norm/mean"] != 0).all() and (found["stage1/norm/var"] != 1).all()


def test_features_of_one_prefix_are_computed_once_for_all_heads_and_seeds(study: tuple[Study, list[int]]) -> None:
    # Of the filters learned by each of two seeds: not again for `ridge`, `logistic` and both seeds of `one`.
    assert study[1] == [84, 84]
    assert not (study[0].folder / "features").exists()


def best_of(study: Study, arm: str) -> dict[str, Any]:
    """What the checkpoint of the first seed holds."""
    unit = next(unit for unit in study.units if unit.arm == arm)
    summary = cnnjax.load(unit.folder).dataset
    checkpoints = Checkpoints(unit.folder / "checkpoints", read_only=True)
    saved = checkpoints.newest({"best": make_blueprint(study.experiment.arms[arm], summary).abstract})
    checkpoints.close()
    assert saved is not None
    return saved.items["best"]


def test_gradients_are_measured_at_the_start_and_at_each_evaluation(
    study: tuple[Study, list[int]], toy: Dataset
) -> None:
    loaded = cnnjax.load(study[0].folder / "runs" / "combined" / "seed1")
    columns = [name for name in loaded.metrics if name.startswith("gradient_norm/")]
    assert columns == ["gradient_norm/stage1/conv/kernel", "gradient_norm/head/layer/kernel"]
    rows = loaded.metrics.dropna(subset=columns)
    assert (rows.split == "train").all()
    assert rows.step.tolist() == [0, 6, 12]
    assert rows.epoch.tolist() == [0, 1, 2]
    subject, key = loaded.subject, jax.random.key(1)
    found = gradient_norms(subject, toy.train.images[:20], toy.train.labels[:20], key=key, batch_size=250)
    values = [finding.value for finding in found if finding.metric == "gradient_norm"]
    best = rows[rows.step == loaded.status["best_step"]]
    np.testing.assert_allclose(best[columns].to_numpy()[0], values, rtol=1e-5)
    assert rows[columns].nunique().tolist() == [3, 3]
    plain = cnnjax.load(study[0].folder / "runs" / "learned" / "seed1").metrics
    assert not [name for name in plain if name.startswith("gradient_norm")]


def test_bank_that_is_combined_stays_and_its_matrix_is_trained(study: tuple[Study, list[int]], toy: Dataset) -> None:
    config = study[0].experiment.arms["combined"]
    start = beginning.begin(config, toy, 0, beginning.Shared(), Interruption(), {}, lambda what, share: None).params
    best = best_of(study[0], "combined")["params"]
    assert best["stage1/conv/kernel"].shape == (3, 3, 1, 6)
    assert best["stage1/conv/kernel"].tobytes() == np.asarray(start["stage1/conv/kernel"]).tobytes()
    assert (best["stage1/conv/mixing"] != start["stage1/conv/mixing"]).any()


def test_combined_run_is_loaded_as_the_network_with_two_convolutions(
    study: tuple[Study, list[int]], toy: Dataset
) -> None:
    loaded = cnnjax.load(study[0].folder / "runs" / "combined" / "seed0")
    accuracy = (np.asarray(loaded.predict(toy.test.images)).argmax(1) == toy.test.labels).mean()
    assert accuracy == pytest.approx(loaded.status["metrics"]["test"]["accuracy"], abs=1e-9)
    best = best_of(study[0], "combined")
    assert flatten(loaded.variables["params"])["stage1/conv/kernel"].shape == (3, 3, 1, 2)
    x = (toy.test.images.astype(np.float32) - 120) / 60
    bank, mixing = best["params"]["stage1/conv/kernel"], best["params"]["stage1/conv/mixing"]
    form = ("NHWC", "HWIO", "NHWC")
    maps = jax.lax.conv_general_dilated(x, bank, (1, 1), "SAME", dimension_numbers=form)
    maps = np.asarray(jax.lax.conv_general_dilated(maps, mixing[None, None], (1, 1), "SAME", dimension_numbers=form))
    norm = {path.rpartition("/")[2]: array for flat in best.values() for path, array in flat.items() if "norm" in path}
    maps = (maps - norm["mean"]) / np.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]
    pooled = np.maximum(maps, 0).reshape(13, 3, 2, 3, 2, 2).max((2, 4))
    np.testing.assert_allclose(loaded.features(toy.test.images, "stage1"), pooled, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("arm", ["ridge", "logistic"])
def test_status_and_metrics_of_a_head_in_closed_form(study: tuple[Study, list[int]], arm: str, toy: Dataset) -> None:
    loaded = cnnjax.load(study[0].folder / "runs" / arm / "seed1")
    status, strengths = loaded.status, study[0].experiment.arms[arm].head.strengths
    assert status["strength"] in strengths
    assert (status["features"], status["parameters"], status["parameters_trained"]) == (18, 18 + 4 + 57, 57)
    assert status["seconds"].keys() == {"train", "preparation"}
    trials = loaded.metrics[loaded.metrics.split == "validation"]
    assert trials.strength.tolist() == sorted(strengths, reverse=True)
    assert trials.accuracy.max() == status["metrics"]["validation"]["accuracy"]
    accuracy = (np.asarray(loaded.predict(toy.test.images)).argmax(1) == toy.test.labels).mean()
    assert status["metrics"]["test"]["accuracy"] == pytest.approx(accuracy, abs=1e-9)
    assert accuracy > 0.6  # the classes differ in brightness


def test_results_say_how_fast_each_run_was(study: tuple[Study, list[int]]) -> None:
    results = collect(study[0])
    values = results.pivot_table(index=["arm", "seed"], columns="metric", values="value").loc[("learned", 1)]
    assert values.images_per_second == pytest.approx(12 * 8 / values.train_seconds)
    adds = 3 * (36 * 9 * 2 + 18 * 3)  # of a forward pass, taken three times
    assert values.flops_per_second == pytest.approx(2 * adds * values.images_per_second)
    assert 0 < values.peak_share < 1 and values.compilation_seconds >= 0
    rows = speed_rows(study[0], results)
    unknown = speed_rows(study[0], results[results.metric != "peak_share"])
    assert [row[3] for row in unknown] == ["–"] * len(rows)
    assert [row[0] for row in rows] == ["learned", "taken", "shifted", "combined"]  # and no head in closed form
    assert len(rows[0]) == len(SPEED_HEADINGS)


def test_log_says_how_fast_a_run_was_and_what_it_took_besides() -> None:
    speed = {"images_per_second": 12345.6, "flops_per_second": 3.21e9}
    seconds = {"compilation": 1.24, "train": 5.0}
    assert speed_text(speed, seconds) == "12,346 images/s, 3.2 GFLOP/s, compiled in 1.2 s"
    told = speed_text({**speed, "peak_share": 0.123}, {**seconds, "data_wait": 0.5})
    assert told.endswith("3.2 GFLOP/s (12% of the peak), compiled in 1.2 s, waited for data for 0.5 s")


def test_results_have_every_arm(study: tuple[Study, list[int]]) -> None:
    results = collect(study[0])
    whole = results[results.split.isna()]
    assert set(whole.arm[whole.metric == "strength"]) == {"ridge", "logistic", "one"}
    for metric in ("features", "preparation_seconds", "train_seconds"):
        assert len(whole[whole.metric == metric]) == 14
    assert set(whole.value[whole.metric == "features"]) == {18}


def test_head_that_was_cut_off_before_its_status_is_found_anew(study: tuple[Study, list[int]], toy: Dataset) -> None:
    made = study[0]
    unit = next(unit for unit in made.units if unit.arm == "ridge")
    before, rows = read_status(unit), (unit.folder / "metrics.jsonl").read_text()
    (unit.folder / "status.json").write_text(json.dumps({"state": "running"}))
    (unit.folder / "metrics.jsonl").write_text(rows + rows[:30])
    run(made, toy, [unit])
    after = read_status(unit)
    assert {**after, "seconds": 0} == {**before, "seconds": 0}
    assert (unit.folder / "metrics.jsonl").read_text() == rows
    assert np.isfinite(cnnjax.load(unit.folder).predict(toy.test.images)).all()


def test_head_that_did_not_converge_is_said_in_the_log_and_beside_the_table(
    study: tuple[Study, list[int]],
    toy: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(head, "logistic_path", functools.partial(head.logistic_path, most_iterations=1))
    config = override(study[0].experiment.arms["logistic"], {"filters": "stage1/.*=he,frozen;head/.*=init,trained"})
    other = Study(epath.Path(tmp_path), Experiment("hasty", "How hasty?", {"logistic": config}), 1)
    run(other, toy)
    says = "logistic seed 0: L-BFGS did not converge at strength 0.1, 0.001, the chosen one among them"
    assert says in caplog.messages
    assert warnings(other) == [says]
    assert says in study_block(other)
    assert warnings(study[0]) == []
    assert not troubles(other)  # it is no failure


@pytest.mark.slow
def test_features_are_files_until_the_study_ends(
    study: tuple[Study, list[int]], toy: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (assembly, beginning):
        monkeypatch.setattr(module, "MOST_FEATURE_BYTES", 84 * 18 * 4 - 1)
    seen: list[tuple[list[str], bool]] = []
    fit_head = closed_form.fit_head

    def look(config: Any, beginning: Any, *rest: Any) -> Any:
        files = sorted(path.name for path in Path(other.folder / "features").iterdir())
        seen.append((files, isinstance(beginning.examples, np.memmap)))
        return fit_head(config, beginning, *rest)

    monkeypatch.setattr(closed_form, "fit_head", look)
    plan = f"stage1/.*=checkpoint:{study[0].folder}/runs/learned/seed0,frozen;head/.*=init,trained"
    arms = {
        name: override(study[0].experiment.arms[name], {"filters": plan}) for name in ("ridge", "logistic", "taken")
    }
    other = Study(epath.Path(tmp_path), Experiment("large", "How large?", arms), 2)
    store = FileStore(other.folder)
    with counted() as calls:
        for seed in (0, 1):  # as a sweep does
            units = [unit for unit in other.units if unit.seed == seed]
            run_study(other, units, {LEARNED.data: toy}, Console(file=io.StringIO()), Interruption(), features=store)
    store.clear()
    assert {read_status(unit)["state"] for unit in other.units} == {"finished"}
    assert calls == [84]
    assert [is_file for _, is_file in seen] == [True] * 4  # `taken`, whose head is trained by steps, is not asked
    assert all(files == seen[0][0] and len(files) == 1 and files[0].endswith(".npy") for files, _ in seen)
    assert not (other.folder / "features").exists()
    # The head is the one from features that memory held.
    for arm in arms:
        for path, array in variables_of(other, arm, 0).items():
            expected = variables_of(study[0], arm, 0)[path]
            np.testing.assert_allclose(array, expected, rtol=1e-3, atol=1e-4)
