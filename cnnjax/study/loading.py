"""Finished runs and studies, loaded for analysis."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from etils import epath

from cnnjax.analysis.subject import Subject
from cnnjax.config import Config, RequestError, from_dict
from cnnjax.data.dataset import DataSummary
from cnnjax.data.feed import standardise
from cnnjax.filters.combination import combine
from cnnjax.filters.plan import unflatten
from cnnjax.models.network import Network, run_stages
from cnnjax.study.records import read_rows
from cnnjax.study.results import collect
from cnnjax.study.workdir import FORMAT, Study, Unit, read_status, read_study
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.setup import make_blueprint


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, as its best evaluation left it.

    Attributes:
      arm, seed: of the run.
      config: its config.
      dataset: what it was trained on.
      status: what `status.json` says: its state, its metrics, seconds, and numbers of parameters.
      model: the network.
      variables: `params` and `batch_stats`, nested, NumPy arrays.
      metrics: one row for each evaluation and split, with step, epoch, loss, accuracy.
    """

    arm: str
    seed: int
    config: Config
    dataset: DataSummary
    status: dict[str, Any]
    model: Network
    variables: dict[str, Any]
    metrics: pd.DataFrame

    def predict(self, images: Any) -> jax.Array:
        """The logits [N, classes] of images [N, *spatial, C] in the data set's own units (uint8 for images).

        Raises:
          ValueError: for images of another shape than the run was trained on.
        """
        return run_stages(self.model, self.variables, self._input(images))

    def features(self, images: Any, stage: str) -> jax.Array:
        """The output of a stage for images as in `predict`.

        Raises:
          ValueError: for images of another shape, or a stage that the network does not have.
        """
        return run_stages(self.model, self.variables, self._input(images), until=stage)

    @property
    def subject(self) -> Subject:
        """The run as the functions of `cnnjax.analysis` take it."""
        data = self.dataset
        return Subject(self.model, self.variables, data.mean, data.std, data.low, data.high)

    def _input(self, images: Any) -> jax.Array:
        array = np.asarray(images)
        if array.shape[1:] != self.dataset.shape:
            raise ValueError(f"images must be [N, {', '.join(map(str, self.dataset.shape))}]; given {array.shape}")
        return standardise(jnp.asarray(array), self.dataset.mean, self.dataset.std)


@dataclasses.dataclass(frozen=True)
class LoadedStudy:
    """A study and its runs so far.

    Attributes:
      study: what `study.json` says.
      results: the tidy table: arm, seed, split, metric, stage, magnitude, value.
    """

    study: Study
    results: pd.DataFrame

    def run(self, arm: str, seed: int) -> Run:
        """One run of it; see `load`."""
        return load(self.study.folder / "runs" / arm / f"seed{seed}")


def load(path: str | epath.Path) -> Run:
    """The run in a folder `WORKDIR/runs/ARM/seedN`.

    Raises:
      RequestError: if there is no run there, one of another version, or none with a checkpoint that can be read.
    """
    folder = epath.Path(path)
    try:
        about = dict(json.loads((folder / "config.json").read_text()))
        if about.get("format") != FORMAT:
            raise ValueError(f"its format is {about.get('format', 'not said')}, not {FORMAT}")
        config = from_dict(about["config"])
        shaped = {name: tuple(about["dataset"][name]) for name in ("shape", "mean", "std")}
        summary = DataSummary(**{**about["dataset"], **shaped})
        unit = Unit(about["arm"], about["seed"], folder)
    except FileNotFoundError:
        raise RequestError(f"there is no run in {folder}: it has no config.json") from None
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{folder / 'config.json'} is not what this version of cnnjax writes ({error})") from None
    blueprint = make_blueprint(config, summary)
    saved = None
    if (folder / "checkpoints").exists():
        checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
        saved = checkpoints.newest({"best": blueprint.abstract})
        checkpoints.close()
    if saved is None:
        raise RequestError(f"the run in {folder} has no checkpoint that can be read")
    best = saved.items["best"]
    variables = {"params": unflatten(combine(best["params"])), "batch_stats": unflatten(best["batch_stats"])}
    rows = pd.DataFrame(read_rows(folder))
    return Run(unit.arm, unit.seed, config, summary, read_status(unit), blueprint.model, variables, rows)


def load_study(path: str | epath.Path) -> LoadedStudy:
    """The study in a workdir, finished or not.

    Raises:
      RequestError: if there is none.
    """
    study = read_study(epath.Path(path))
    return LoadedStudy(study, collect(study))
