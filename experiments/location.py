"""Can a convolutional network tell where things are?

A convolution that ends in global pooling should not: the same features come out wherever the digit lies. But zeros at
the borders are seen, and give the places away (Islam, Jia and Bruce 2020; Kayhan and van Gemert 2020). The label of
`located_digits` is at which of nine places a digit lies. Where the borders wrap around, and the places are whole
numbers of strides apart, all nine give the very same features, and nothing better than chance, 11.1%, can be learned:
the theory's own case. Without padding, windows that reach over the digit are missing at the borders; mirrored borders
show the digit twice. A head that sees the positions is the ceiling.

    python launch.py --config=experiments/location.py --workdir=runs/location

About two minutes on two CPU cores. On an accelerator, wider and for longer:

    python launch.py --config=experiments/location.py --workdir=runs/location_wide --config.model.width=64 \
        --config.train.epochs=100 --seeds=10

With a set that TFDS has prepared, whose labels are not places, it asks what the borders are worth to recognition:
`--config.data.name=cifar10`.
"""

from typing import Any

from cnnjax.config import Config, DataConfig, MeasureConfig, ModelConfig, OptimConfig, StudyConfig, TrainConfig
from cnnjax.study.experiment import Column


def get_config() -> Config:
    """What all arms share: two halvings before the last stage, on whose grid the places are two positions apart."""
    return Config(
        model=ModelConfig(name="convnet", width=8, depth=3, kernel_size=3, pool="global_average"),
        data=DataConfig(name="located_digits"),
        optim=OptimConfig(name="adam", lr=3e-3),
        train=TrainConfig(epochs=30, eval_every=3),
        measures=MeasureConfig(names=("equivariance",), transformations=("translation",), images=200),
        study=StudyConfig(seeds=5, baseline="circular"),
    )


def arms() -> dict[str, dict[str, Any]]:
    """Each kind of border; and the wrapped one under a head that sees the positions, by window pooling throughout."""
    padded: dict[str, dict[str, Any]] = {
        "circular": {"model.padding": "circular"},
        "zeros": {"model.padding": "same"},
        "reflect": {"model.padding": "reflect"},
        "none": {"model.padding": "valid"},
    }
    return {**padded, "positions seen": {"model.padding": "circular", "model.pool": "max"}}


def columns() -> dict[str, Column]:
    """Whether the features move with the digit, and whether they stay the same once they are pooled."""
    return {
        "equivariance error of stage 2 at 8 pixels": Column("translation/equivariance_error", "stage2", 8.0),
        "invariance error of stage 3 at 8 pixels": Column("translation/invariance_error", "stage3", 8.0),
    }
