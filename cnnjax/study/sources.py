"""The variables that a plan's saved sources name: of runs of this study or another, and of files."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from etils import epath

from cnnjax.config import Config, FilterRule, RequestError
from cnnjax.data.dataset import DataSummary
from cnnjax.filters.plan import Flat, flatten
from cnnjax.filters.saved import Saved
from cnnjax.filters.sources import is_saved
from cnnjax.models.torch_weights import is_torchs, load_torch, read_tensors
from cnnjax.study.arms import needed_arms
from cnnjax.study.loading import load
from cnnjax.train.setup import abstract_collections, build_model


def read_sources(plan: Sequence[FilterRule], network: str, seed: int, folder: epath.Path) -> Saved:
    """All that a plan takes from elsewhere.

    Args:
      plan: of an arm.
      network: the name of its network.
      seed: of the run; it stands for `{seed}` in a path, and picks the run of another arm.
      folder: of the study.

    Raises:
      RequestError: for an unknown source, a run or a file that is not there or cannot be read, or a run that has not
        finished.
    """
    saved = {}
    for source in {rule.source for rule in plan if is_saved(rule.source)}:
        kind, _, where = source.partition(":")
        path = str(folder / "runs" / where / f"seed{seed}") if kind == "arm" else where.replace("{seed}", str(seed))
        path = str(epath.Path(path).expanduser())
        saved[source] = _read_file(path, network) if kind == "safetensors" else _read_run(path)
    return saved


def foresee_sources(
    config: Config, seeds: int, folder: epath.Path, others: Mapping[str, tuple[Config, DataSummary]]
) -> Saved:
    """What `read_sources` will find, for a check before anything is run: other arms by their abstract shapes.

    Args:
      config: of an arm.
      seeds: of the study; what the plan names must be there for each.
      folder: of the study.
      others: the config and the data of each arm that it needs.

    Raises:
      RequestError: as `read_sources`.
    """
    elsewhere = [rule for rule in config.filters if not rule.source.startswith("arm:")]
    each = range(seeds) if any("{seed}" in rule.source for rule in elsewhere) else range(1)
    found = [read_sources(elsewhere, config.model.name, seed, folder) for seed in each]
    arms = {}
    for arm in needed_arms(config.filters):
        other, summary = others[arm]
        arms[f"arm:{arm}"] = abstract_collections(build_model(other.model, summary), summary)
    return {**found[0], **arms}


def _read_run(path: str) -> dict[str, Flat]:
    run = load(path)
    if run.status.get("state") != "finished":
        raise RequestError(f"the run in {path} has not finished: {run.status.get('state', 'not begun')}")
    return _flat(run.variables)


def _flat(variables: Mapping[str, Mapping]) -> dict[str, Flat]:
    return {name: flatten(tree) for name, tree in variables.items()}


def _read_file(path: str, network: str) -> dict[str, Flat]:
    """A file's tensors by this project's paths: it has these names (`stage1/conv/kernel`), or torchvision's."""
    tensors = read_tensors(path)
    if is_torchs(tensors, network):
        return _flat(load_torch(path, network))
    flat = {name: jnp.asarray(tensor, jnp.float32) for name, tensor in tensors.items()}
    return {"params": flat, "batch_stats": flat}
