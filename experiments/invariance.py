"""What do convolution, pooling, learning and augmentation each do to a network's invariance?

The lectures say that pooling makes features invariant to small translations, and that convolution and pooling together
are translation invariant even with random filters; Goodfellow et al. (2009) measured that learned features grow more
invariant with depth. Random, unsupervised and learned filters under four kinds of pooling, the learned ones with and
without shifted training examples, are measured stage by stage over four transformations: how far features move with the
input (equivariance) or stay (normalised variance, Goodfellow's score), whether predictions stay the same (consistency),
and whether they stay right (accuracy). An accuracy that falls where consistency stays high is invariance to what
mattered.

    python launch.py --config=experiments/invariance.py --workdir=runs/invariance

About eight minutes on two CPU cores, most of it for measures. On an accelerator, with a set that TFDS has
prepared:

    python launch.py --config=experiments/invariance.py --workdir=runs/invariance_cifar10 \
        --config.data.name=cifar10 --config.model.width=64 --config.train.epochs=50 --config.measures.images=1000 \
        --config.measures.transformations=translation,rotation,scale,shear,perspective,brightness,noise,occlusion
"""

import itertools
from typing import Any

from cnnjax.config import (
    Config,
    DataConfig,
    FitConfig,
    MeasureConfig,
    ModelConfig,
    OptimConfig,
    StudyConfig,
    TrainConfig,
)
from cnnjax.study.experiment import Column

POOLS: dict[str, dict[str, Any]] = {
    "max": {"model.pool": "max"},
    "max blur": {"model.pool": "max", "model.downsample": "blur"},
    "average": {"model.pool": "average"},
    "stride": {"model.pool": "stride"},
}
FILTERS: dict[str, dict[str, Any]] = {
    "learned": {},
    "augmented": {"data.augment": ("shift",)},
    "random": {"filters": "stage.*=gaussian,frozen;head/.*=init,trained"},
    "kmeans": {"filters": "stage.*=kmeans,frozen;head/.*=init,trained"},
}


def get_config() -> Config:
    """What all arms share: the borders wrap around, as they do where images are translated."""
    return Config(
        model=ModelConfig(name="convnet", width=8, depth=2, kernel_size=5, padding="circular"),
        data=DataConfig(name="mnist_5k", max_shift=4),
        fit=FitConfig(patches=5000, iterations=20),
        optim=OptimConfig(name="adam", lr=3e-3),
        train=TrainConfig(epochs=8),
        measures=MeasureConfig(
            names=("accuracy", "consistency", "equivariance", "normalised_variance", "goodfellow", "lie_derivative"),
            transformations=("translation", "rotation", "scale", "brightness"),
            images=200,
        ),
        study=StudyConfig(seeds=3, baseline="learned max"),
    )


def arms() -> dict[str, dict[str, Any]]:
    """Each source of filters with each kind of pooling."""
    return {
        f"{source} {pool}": {**filters, **pooling}
        for (source, filters), (pool, pooling) in itertools.product(FILTERS.items(), POOLS.items())
    }


def columns() -> dict[str, Column]:
    """The two halves of the question, and how far the last stage moves with the input or stays."""
    return {
        "consistency under shifts (%)": Column("random_shift/consistency"),
        "accuracy at 4 pixels (%)": Column("translation/accuracy", magnitude=4.0),
        "accuracy at 36 degrees (%)": Column("rotation/accuracy", magnitude=36.0),
        "accuracy at half the size (%)": Column("scale/accuracy", magnitude=-1.0),
        "equivariance error of stage 2 at 4 pixels": Column("translation/equivariance_error", "stage2", 4.0),
        "invariance error of stage 2 at 4 pixels": Column("translation/invariance_error", "stage2", 4.0),
        "Goodfellow's score of stage 2 under translation": Column("translation/goodfellow_top", "stage2"),
    }
