"""Which pooling serves best, and does it matter more where examples are few?

Pooling is an infinitely strong prior that features should be invariant to small translations (the lectures): it should
help most where examples are too few to learn that from. All kinds of windows that the lectures name, and none at all,
are compared with regions that are learned (Jia et al. 2012) or differ from image to image (Boureau et al. 2011), over
training-set sizes. Every arm takes the same number of steps.

    python launch.py --config=experiments/pooling.py --workdir=runs/pooling

About fifteen minutes on two CPU cores. On the signals of MNIST-1D:

    python launch.py --config=experiments/pooling.py --workdir=runs/pooling_mnist1d --config.data.name=mnist1d \
        --config.measures.transformations=shift

On an accelerator, with a set that TFDS has prepared (greater training sets are put into `SIZES`):

    python launch.py --config=experiments/pooling.py --workdir=runs/pooling_cifar10 \
        --config.data.name=cifar10 --config.model.width=64 --config.model.depth=3 --config.measures.images=1000
"""

import itertools
from typing import Any

from cnnjax.config import Config, DataConfig, MeasureConfig, ModelConfig, OptimConfig, StudyConfig, TrainConfig
from cnnjax.study.experiment import Column, Lines

WINDOWS = ("none", "stride", "max", "average", "l2", "gaussian", "stochastic", "blur")
REGIONS = ("learned", "dynamic")
SIZES = (50, 250, 1250)
BATCH, STEPS = 50, 500


def get_config() -> Config:
    """What all arms share: windows of 3, for those of 2 have the same weights by average, Gaussian and blur."""
    return Config(
        model=ModelConfig(name="convnet", width=8, depth=2, kernel_size=3, pool_size=3, pool_stride=2),
        data=DataConfig(name="mnist_5k"),
        optim=OptimConfig(name="adam", lr=3e-3),
        train=TrainConfig(batch_size=BATCH),
        measures=MeasureConfig(names=("consistency",), transformations=("translation",), images=200),
        study=StudyConfig(seeds=3, baseline=f"max {SIZES[-1]}"),
    )


def arms() -> dict[str, dict[str, Any]]:
    """Each pool at each size; ten evaluations whatever the size."""
    windows: dict[str, dict[str, Any]] = {"none": {"model.pool_size": None, "model.pool_stride": None}}
    return {
        f"{pool} {size}": {
            "model.pool": pool,
            **windows.get(pool, {}),
            "data.examples": size,
            "train.epochs": STEPS * BATCH / size,
            "train.eval_every": STEPS * BATCH / size / 10,
        }
        for pool, size in itertools.product((*WINDOWS, *REGIONS), SIZES)
    }


def lines() -> Lines:
    """A line for each pool, over the training set's size."""
    return Lines("data.examples", {pool: tuple(f"{pool} {size}" for size in SIZES) for pool in (*WINDOWS, *REGIONS)})


def columns() -> dict[str, Column]:
    """How often two random shifts of an image are given the same class."""
    return {
        "consistency under shifts (%)": Column("random_shift/consistency"),
    }
