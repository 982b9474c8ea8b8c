"""Finished runs, loaded: the network that was measured is the network that is given back."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from etils import epath

import cnnjax
from cnnjax.config import RequestError
from cnnjax.data.dataset import Dataset, Split
from cnnjax.filters.plan import flatten
from cnnjax.filters.random import gaussian
from cnnjax.ops.keys import fold_in_name, stream_key
from cnnjax.study.loading import Run
from cnnjax.study.workdir import FORMAT, Study


@pytest.fixture(scope="module", params=["learned", "gaussian"])
def run(request: pytest.FixtureRequest, finished_study: Study) -> Run:
    return cnnjax.load(finished_study.folder / "runs" / request.param / "seed0")


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def accuracy(run: Run, split: Split) -> float:
    return float(np.mean(np.asarray(run.predict(split.images)).argmax(1) == split.labels))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def copy(finished_study: Study, tmp_path: Path) -> Path:
    """A run of one's own."""
    return Path(shutil.copytree(finished_study.folder / "runs" / "learned" / "seed0", tmp_path / "run"))


def test_predictions_are_what_was_measured(run: Run, digits: Dataset) -> None:
    measured = run.status["metrics"]
    assert accuracy(run, digits.test) == pytest.approx(measured["test"]["accuracy"], abs=1e-9)
    assert accuracy(run, digits.validation) == pytest.approx(measured["validation"]["accuracy"], abs=1e-9)
    scores = log_softmax(np.asarray(run.predict(digits.test.images)))
    loss = -scores[np.arange(len(digits.test)), digits.test.labels].mean()
    assert measured["test"]["loss"] == pytest.approx(loss, rel=1e-4)
    assert measured["test"]["accuracy"] > 0.2  # twice what guessing reaches


def test_features_lead_to_the_logits(run: Run, digits: Dataset) -> None:
    images = digits.test.images[:5]
    features = np.asarray(run.features(images, stage="stage1"))
    assert features.shape == (5, 4, 4, 2)
    head = {path.rpartition("/")[2]: np.asarray(a) for path, a in flatten(run.variables["params"]["head"]).items()}
    logits = features.reshape(5, -1) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(run.predict(images), logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(run.features(images, stage="head"), run.predict(images))


def test_run_knows_itself(finished_study: Study, digits: Dataset) -> None:
    run = cnnjax.load(finished_study.folder / "runs" / "gaussian" / "seed1")
    assert (run.arm, run.seed) == ("gaussian", 1)
    assert run.config == finished_study.experiment.arms["gaussian"]
    assert run.dataset == digits.summary
    assert run.status["state"] == "finished"
    assert run.status["parameters_trained"] < run.status["parameters"]


def test_metrics_have_a_row_for_each_evaluation_and_split(run: Run) -> None:
    steps = 1258 // 64  # to an epoch
    assert list(zip(run.metrics.step, run.metrics.epoch, run.metrics.split, strict=True)) == [
        (steps, 1.0, "train"),
        (steps, 1.0, "validation"),
        (2 * steps, 2.0, "train"),
        (2 * steps, 2.0, "validation"),
    ]
    validation = run.metrics[run.metrics.split == "validation"].set_index("step").accuracy
    assert validation[run.status["best_step"]] == validation.max() == run.status["metrics"]["validation"]["accuracy"]


def test_frozen_filters_are_those_of_the_start(finished_study: Study) -> None:
    params = flatten(cnnjax.load(finished_study.folder / "runs" / "gaussian" / "seed1").variables["params"])
    path = "stage1/conv/kernel"
    drawn = gaussian(fold_in_name(stream_key(1, "filters"), path), (3, 3, 1, 2))
    np.testing.assert_allclose(params[path], drawn, rtol=1e-6)
    np.testing.assert_array_equal(params["stage1/conv/bias"], 0)


def test_arms_of_a_seed_saw_the_same_validation_split(finished_study: Study) -> None:
    loaded = cnnjax.load_study(finished_study.folder)
    assert loaded.run("learned", 0).dataset == loaded.run("gaussian", 0).dataset


def test_seeds_differ(finished_study: Study) -> None:
    loaded = cnnjax.load_study(finished_study.folder)
    first, second = (flatten(loaded.run("learned", seed).variables["params"]) for seed in (0, 1))
    assert not np.array_equal(first["stage1/conv/kernel"], second["stage1/conv/kernel"])


def test_study_has_the_results_of_its_file(finished_study: Study) -> None:
    loaded = cnnjax.load_study(str(finished_study.folder))
    assert loaded.study == finished_study
    written = pd.read_csv(finished_study.folder / "results.csv")
    pd.testing.assert_frame_equal(loaded.results, written, check_dtype=False)


def test_relative_path_will_do(finished_study: Study, monkeypatch: pytest.MonkeyPatch, digits: Dataset) -> None:
    monkeypatch.chdir(finished_study.folder.parent)
    run = cnnjax.load("study/runs/learned/seed0")
    assert run.predict(digits.test.images[:1]).shape == (1, 10)
    assert cnnjax.load_study("study").run("learned", 0).seed == 0


def test_loading_changes_nothing(finished_study: Study, tmp_path: Path) -> None:
    folder = copy(finished_study, tmp_path)
    before = contents(folder)
    cnnjax.load(folder)
    assert contents(folder) == before


def test_broken_checkpoint_is_not_loaded(finished_study: Study, tmp_path: Path) -> None:
    folder = copy(finished_study, tmp_path)
    for file in (folder / "checkpoints").glob("*/best/_METADATA"):
        file.write_text("{")
    with pytest.raises(RequestError, match="has no checkpoint that can be read"):
        cnnjax.load(folder)


@pytest.mark.parametrize(
    "shape", [(8, 8, 1), (2, 8, 8), (2, 8, 8, 3), (2, 28, 28, 1)], ids=["no_batch", "no_channel", "colour", "large"]
)
def test_images_of_another_shape(run: Run, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images must be \[N, 8, 8, 1\]; given"):
        run.predict(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match=r"images must be \[N, 8, 8, 1\]; given"):
        run.features(np.zeros(shape, np.uint8), stage="stage1")


def test_unknown_stage(run: Run) -> None:
    with pytest.raises(ValueError, match="no stage 'stage9'; there are: stage1, head"):
        run.features(np.zeros((1, 8, 8, 1), np.uint8), stage="stage9")


def test_arrays_of_jax_are_images_too(run: Run, digits: Dataset) -> None:
    images = digits.test.images[:3]
    np.testing.assert_array_equal(run.predict(jax.numpy.asarray(images)), run.predict(images))


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"there is no run in .*: it has no config\.json"):
        cnnjax.load(tmp_path)
    with pytest.raises(RequestError, match="there is no study in"):
        cnnjax.load_study(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", f'{{"format": {FORMAT}, "config": {{"model": {{"widht": 3}}}}}}']
)
def test_unreadable_config(finished_study: Study, tmp_path: Path, text: str) -> None:
    folder = copy(finished_study, tmp_path)
    (folder / "config.json").write_text(text)
    with pytest.raises(RequestError, match="config") as raised:
        cnnjax.load(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("written", "says"), [(3, "3"), (None, "not said")])
def test_run_of_another_version(finished_study: Study, tmp_path: Path, written: int | None, says: str) -> None:
    folder = copy(finished_study, tmp_path)
    about = json.loads((folder / "config.json").read_text())
    del about["format"]
    text = json.dumps({**about, "later": 1} | ({"format": written} if written else {}))
    (folder / "config.json").write_text(text)
    said = rf"not what this version of cnnjax writes \(its format is {says}, not {FORMAT}\)$"
    with pytest.raises(RequestError, match=said):
        cnnjax.load(folder)
    assert (folder / "config.json").read_text() == text


def test_run_without_a_checkpoint(finished_study: Study, tmp_path: Path) -> None:
    folder = copy(finished_study, tmp_path)
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(RequestError, match="has no checkpoint that can be read"):
        cnnjax.load(epath.Path(folder))
    assert not (folder / "checkpoints").exists()


def test_run_of_a_network_that_has_changed(finished_study: Study, tmp_path: Path) -> None:
    folder = copy(finished_study, tmp_path)
    about = json.loads((folder / "config.json").read_text())
    about["config"]["model"]["width"] = 3
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(RequestError, match="holds arrays of other names or shapes than this network's"):
        cnnjax.load(folder)
