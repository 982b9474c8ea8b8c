"""Every experiment reads, and what each of its arms asks for can be run on its data."""

from pathlib import Path

import numpy as np
import pytest
from etils import epath

from cnnjax.analysis.grids import stage_grids
from cnnjax.analysis.measures import FACTORS
from cnnjax.analysis.subject import Subject
from cnnjax.config import DataConfig, RequestError, override
from cnnjax.data.dataset import Dataset, DataSummary, Split
from cnnjax.filters.sources import DRAWN
from cnnjax.filters.unsupervised import FITS
from cnnjax.ops.transformations.table import default_magnitudes
from cnnjax.study import runner
from cnnjax.study.experiment import Experiment, read_experiment
from cnnjax.study.workdir import Study
from cnnjax.train.setup import build_model

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.py")) if "\ndef get_config(" in path.read_text()}
DEEP = ("depth", "invariance", "linear_combinations", "batchnorm_only", "jarrett", "screening", "unsupervised")
# The shape, the classes and the training examples before any are held out.
DATA = {
    "mnist_5k": ((28, 28, 1), 10, 3500),
    "digits_8x8": ((8, 8, 1), 10, 1258),
    "mnist1d": ((40, 1), 10, 4000),
    "located_digits": ((24, 24, 1), 9, 1257),
}


def dataset(config: DataConfig) -> Dataset:
    """No examples; but their summary, as of as many as the config leaves."""
    shape, classes, train = DATA[config.name]
    if config.name == "mnist1d":
        train = round(train * (1 - config.validation))
    assert config.examples <= train
    sizes = {"train": config.examples or train, "validation": 100, "test": 500}
    summary = DataSummary(config.name, shape, len(config.classes) or classes, (0.0,), (1.0,), 0.0, 255.0, sizes)
    empty = Split(np.zeros((0, *shape), np.uint8), np.zeros(0, np.int32))
    return Dataset(summary, empty, empty, empty)


def check(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a study is asked before anything is written."""
    monkeypatch.setattr(runner, "open_dataset", dataset)
    study = Study(epath.Path("unwritten"), experiment, seeds=1)
    runner.load_datasets(study, study.units)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in DEEP else []) for name in FILES]
)
def test_every_arm_can_be_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = read_experiment(str(FILES[name]), {}, None)
    assert experiment.question.endswith("?")
    assert experiment.baseline is not None
    assert f"--config=experiments/{name}.py --workdir=runs/{name}" in FILES[name].read_text()
    check(experiment, monkeypatch)


@pytest.mark.parametrize("name", FILES)
def test_every_column_is_of_a_magnitude_that_is_measured(name: str) -> None:
    experiment = read_experiment(str(FILES[name]), {}, None)
    measures = experiment.arms[str(experiment.baseline)].measures
    for heading, column in experiment.columns.items():
        if column.magnitude is not None:
            along = column.metric.split("/")[0]
            given = {
                "size": FACTORS,
                **dict.fromkeys(("fgsm_linf", "pgd_linf", "pgd_linf_targeted"), measures.epsilons),
                **dict.fromkeys(("fgsm_l2", "pgd_l2"), measures.epsilons_l2),
            }
            walked = given[along] if along in given else default_magnitudes(along, measures.magnitudes)
            assert np.isclose(walked, column.magnitude, rtol=1e-3).any(), heading


@pytest.mark.parametrize("name", FILES)
def test_every_column_is_of_a_stage_where_it_is_measured(name: str) -> None:
    experiment = read_experiment(str(FILES[name]), {}, None)
    config = experiment.arms[str(experiment.baseline)]
    summary = dataset(config.data).summary
    subject = Subject(build_model(config.model, summary), {}, summary.mean, summary.std)
    grids = stage_grids(subject, summary.shape)
    for heading, column in experiment.columns.items():
        if column.stage is not None:
            there = grids if column.metric.endswith("/equivariance_error") else subject.stages
            assert column.stage in there, heading


@pytest.mark.parametrize(("name", "lacking"), [("filter_sources", {"zca"}), ("jarrett", {"zca", "autoencoder"})])
def test_every_source_has_an_arm(name: str, lacking: set[str]) -> None:
    experiment = read_experiment(str(FILES[name]), {}, None)
    sources = {rule.source for config in experiment.arms.values() for rule in config.filters}
    assert sources - {"init"} == {*DRAWN, *FITS} - lacking


def test_depth_is_compared_at_the_width_that_is_asked_for() -> None:
    for changes, width in (({}, 4), ({"model.width": "16"}, 16)):
        experiment = read_experiment(str(FILES["depth"]), changes, None)
        assert {config.model.width for config in experiment.arms.values()} == {width}


def test_screening_has_at_least_32_architectures_over_every_axis() -> None:
    experiment = read_experiment(str(FILES["screening"]), {}, None)
    assert len(experiment.screening) >= 32
    for pair in zip(*experiment.screening.values(), strict=True):
        models = {experiment.arms[arm].model for arm in pair}
        assert len(models) == len(experiment.screening)
        for field in ("kernel_size", "width", "depth", "pool", "pool_size", "pool_stride"):
            assert len({getattr(model, field) for model in models}) > 1, field
    for random, trained in experiment.screening.values():
        assert experiment.arms[random].model == experiment.arms[trained].model
        assert experiment.arms[random].head.name == "ridge"


def test_arm_that_cannot_be_run_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = read_experiment(str(FILES["pooling"]), {}, ["max 50"])
    arms = {arm: override(config, {"train.batch_size": 51}) for arm, config in experiment.arms.items()}
    with pytest.raises(RequestError, match=r"config\.train\.batch_size: 51 is more than the 50 training examples"):
        check(Experiment("pooling", "?", arms), monkeypatch)
