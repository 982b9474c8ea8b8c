"""Does a network that takes images of any size recognise them at any size?

Convolution works at any size, and pooling to a fixed number of regions lets the dense layers follow (the lectures; He
et al. 2014, spatial pyramid pooling). That the shapes fit does not say that the features mean the same: each network is
trained at one size and tested on the images resized to others (`sizes`), and on objects that are greater and smaller in
images of the same size (`accuracy` over `scale`).

    python launch.py --config=experiments/variable_size.py --workdir=runs/variable_size

About four minutes on two CPU cores. On an accelerator, with a set that TFDS has prepared:

    python launch.py --config=experiments/variable_size.py --workdir=runs/variable_size_cifar10 \
        --config.data.name=cifar10 --config.model.width=64 --config.model.depth=3 --config.train.epochs=50 \
        --config.measures.images=1000
"""

from typing import Any

from cnnjax.config import Config, DataConfig, MeasureConfig, ModelConfig, OptimConfig, StudyConfig, TrainConfig
from cnnjax.study.experiment import Column

POOLS = ("global_average", "global_max", "adaptive_average", "adaptive_max", "pyramid", "dynamic")


def get_config() -> Config:
    """What all arms share: 3 x 3 adaptive positions, pyramids of 1, 4 and 9, and 9 dynamic regions."""
    return Config(
        model=ModelConfig(name="convnet", width=8, depth=2, kernel_size=5, pool_size=3),
        data=DataConfig(name="mnist_5k"),
        optim=OptimConfig(name="adam", lr=3e-3),
        train=TrainConfig(epochs=10),
        measures=MeasureConfig(names=("sizes", "accuracy"), transformations=("scale",), images=200),
        study=StudyConfig(seeds=5, baseline="global_average"),
    )


def arms() -> dict[str, dict[str, Any]]:
    """Each pool whose features are as many whatever the image's size."""
    return {pool: {"model.pool": pool} for pool in POOLS}


def columns() -> dict[str, Column]:
    """At other sizes of the image, and of the digit in it."""
    return {
        "at half the size (%)": Column("size/accuracy", magnitude=0.5),
        "at the size of training (%)": Column("size/accuracy", magnitude=1.0),
        "at 1.5 times (%)": Column("size/accuracy", magnitude=1.5),
        "at twice the size (%)": Column("size/accuracy", magnitude=2.0),
        "digits of half the size (%)": Column("scale/accuracy", magnitude=-1.0),
    }
