"""Filters from elsewhere: runs of this study and of others, and files."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath
from safetensors.numpy import save_file

from cnnjax.config import Config, FilterRule, ModelConfig, RequestError, override, to_dict
from cnnjax.data.dataset import DataSummary
from cnnjax.filters.saved import Saved
from cnnjax.study import sources
from cnnjax.study.sources import foresee_sources, read_sources
from cnnjax.study.workdir import FORMAT
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.setup import make_blueprint

SUMMARY = DataSummary("toy", (6, 6, 1), 3, (120.0,), (60.0,), 0.0, 255.0, {"train": 50, "validation": 21, "test": 13})
CONFIG = Config(model=ModelConfig(name="convnet", width=2, depth=1, kernel_size=3, norm="batch"))
FINISHED = {
    "state": "finished",
    **dict.fromkeys(("metrics", "parameters", "parameters_trained", "features", "best_step", "seconds"), 0),
}


def write_run(folder: Path, value: float, config: Config = CONFIG, **status: Any) -> None:
    """A run whose variables all have one value, but for the matrices of combinations, which sum over the bank."""
    abstract = make_blueprint(config, SUMMARY).abstract
    variables = {
        name: {
            path: np.full(leaf.shape, 1 if path.endswith("mixing") else value, np.float32)
            for path, leaf in flat.items()
        }
        for name, flat in abstract.items()
    }
    folder.mkdir(parents=True)
    summary = {**vars(SUMMARY)}
    about = {"format": FORMAT, "config": to_dict(config), "arm": folder.parent.name, "seed": 0, "dataset": summary}
    (folder / "config.json").write_text(json.dumps(about))
    (folder / "status.json").write_text(json.dumps({**FINISHED, **status}))
    checkpoints = Checkpoints(epath.Path(folder / "checkpoints"))
    checkpoints.save(0, {"best": variables}, {})
    checkpoints.close()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> epath.Path:
    """A study with runs of values 10 and 11, of two seeds; one that combines filters; and one that did not finish."""
    folder = tmp_path_factory.mktemp("study")
    for seed in (0, 1):
        write_run(folder / "runs" / "learned" / f"seed{seed}", 10.0 + seed)
    combined = override(CONFIG, {"filters": "stage1/.*=he,frozen,3;head/.*=init,trained"})
    write_run(folder / "runs" / "combined" / "seed0", 2.0, combined)
    write_run(folder / "runs" / "lost" / "seed0", 5.0, state="diverged", error="the loss was nan")
    return epath.Path(folder)


def rules(*names: str) -> list[FilterRule]:
    return [FilterRule(f"{number}/.*", source) for number, source in enumerate(names)]


def values(saved: Saved, source: str) -> set[float]:
    return {float(x) for flat in saved[source].values() for array in flat.values() for x in np.ravel(array)}


def test_another_arm_gives_its_run_of_the_same_seed(workdir: epath.Path) -> None:
    for seed in (0, 1):
        saved = read_sources(rules("arm:learned", "init"), "convnet", seed, workdir)
        assert list(saved) == ["arm:learned"]
        assert values(saved, "arm:learned") == {10 + seed}
    assert saved["arm:learned"]["params"].keys() == make_blueprint(CONFIG, SUMMARY).abstract["params"].keys()
    assert saved["arm:learned"]["batch_stats"].keys() == {"stage1/norm/mean", "stage1/norm/var"}


def test_checkpoint_by_its_path_with_the_seed_in_it_or_not(workdir: epath.Path) -> None:
    own = f"checkpoint:{workdir}/runs/learned/seed{{seed}}"
    one = f"checkpoint:{workdir}/runs/learned/seed1"
    for seed in (0, 1):
        saved = read_sources(rules(own, one, one), "convnet", seed, epath.Path("elsewhere"))
        assert values(saved, own) == {10 + seed}
        assert values(saved, one) == {11}


def test_combined_filters_are_given_as_the_network_has_them(workdir: epath.Path) -> None:
    saved = read_sources(rules("arm:combined"), "convnet", 0, workdir)
    kernel = np.asarray(saved["arm:combined"]["params"]["stage1/conv/kernel"])
    np.testing.assert_array_equal(kernel, np.full((3, 3, 1, 2), 2 * 6))
    assert "stage1/conv/mixing" not in saved["arm:combined"]["params"]


def test_file_with_our_names(tmp_path: Path) -> None:
    tensors = {"stage1/conv/kernel": np.full((3, 3, 1, 2), 0.5, np.float16), "stage1/norm/mean": np.ones(2, np.float32)}
    save_file(tensors, tmp_path / "weights.safetensors")
    source = f"safetensors:{tmp_path}/weights.safetensors"
    saved = read_sources(rules(source), "convnet", 0, epath.Path("elsewhere"))[source]
    assert saved["params"]["stage1/conv/kernel"].dtype == np.float32
    np.testing.assert_array_equal(saved["params"]["stage1/conv/kernel"], tensors["stage1/conv/kernel"])
    np.testing.assert_array_equal(saved["batch_stats"]["stage1/norm/mean"], [1, 1])


def test_file_with_torchvisions_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_torch(path: str, name: str) -> dict[str, Any]:
        asked.append((path, name))
        return {"params": {"stage1": {"kernel": np.ones(2)}}, "batch_stats": {}}

    monkeypatch.setattr(sources, "load_torch", load_torch)
    path = f"{tmp_path}/alexnet.safetensors"
    save_file({"classifier.6.weight": np.ones((3, 2), np.float32)}, path)
    saved = read_sources(rules(f"safetensors:{path}"), "alexnet", 0, epath.Path("elsewhere"))
    assert asked == [(path, "alexnet")]
    assert list(saved[f"safetensors:{path}"]["params"]) == ["stage1/kernel"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("arm:missing", "there is no run in .*missing/seed0: it has no config.json"),
        ("arm:lost", "the run in .*lost/seed0 has not finished: diverged"),
        ("checkpoint:/nowhere", "there is no run in /nowhere: it has no config.json"),
        ("safetensors:/nowhere.safetensors", "/nowhere.safetensors: .*name a .safetensors file"),
        ("checkpnt:/nowhere", "did you mean 'checkpoint'"),
    ],
)
def test_what_is_not_there(workdir: epath.Path, source: str, says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        read_sources(rules(source), "convnet", 0, workdir)
    assert "\n" not in str(caught.value)


def test_what_will_be_there_is_foreseen(workdir: epath.Path, tmp_path: Path) -> None:
    path = f"checkpoint:{workdir}/runs/learned/seed0"
    config = override(
        CONFIG, {"filters": f"stage1/conv/.*=arm:wide,frozen;stage1/norm/.*={path},frozen;head/.*=init,trained"}
    )
    wide = override(CONFIG, {"model.width": 5})
    saved = foresee_sources(config, 2, epath.Path(tmp_path), {"wide": (wide, SUMMARY)})
    assert saved.keys() == {path, "arm:wide"}
    kernel = saved["arm:wide"]["params"]["stage1/conv/kernel"]
    assert isinstance(kernel, jax.ShapeDtypeStruct) and kernel.shape == (3, 3, 1, 5)
    assert values(saved, path) == {10}


def test_every_seed_has_to_be_there(workdir: epath.Path) -> None:
    source = f"checkpoint:{workdir}/runs/learned/seed{{seed}}"
    config = override(CONFIG, {"filters": f"stage1/.*={source},frozen;head/.*=init,trained"})
    assert values(foresee_sources(config, 2, workdir, {}), source) == {10}
    with pytest.raises(RequestError, match=r"there is no run in .*seed2"):
        foresee_sources(config, 3, workdir, {})
