"""Do filters have to be learned, or only how they are combined?

Gavrikov and Keuper (2023): a ResNet whose spatial filters are random and frozen, and whose 1x1 combinations of them are
learned, reaches what a learned one does once there are several random filters for each that is needed. On CIFAR-10
with ResNet-20 and 16 maps they found, in 75 epochs: learned 91.60%, combinations of learned filters 91.39%, of frozen
random ones 91.89%. The stem and the head are learned in all arms.

    python launch.py --config=experiments/linear_combinations.py --workdir=runs/linear_combinations

About ten minutes on two CPU cores. The paper's, on an accelerator, with the set that TFDS has prepared:

    python launch.py --config=experiments/linear_combinations.py --workdir=runs/linear_combinations_cifar10 \
        --config.data.name=cifar10 --config.data.augment=shift,flip --config.data.max_shift=4 \
        --config.model.width=16 --config.train.epochs=75 --config.train.batch_size=256 --config.optim.name=sgd \
        --config.optim.nesterov=true --config.optim.lr=1e-2 --config.optim.weight_decay=1e-2 \
        --config.optim.label_smoothing=0.1
"""

from typing import Any

from cnnjax.config import Config, DataConfig, ModelConfig, OptimConfig, StudyConfig, TrainConfig

SPATIAL = r"stage.*/conv\d/conv/kernel"


def get_config() -> Config:
    """What all arms share."""
    return Config(
        model=ModelConfig(name="resnet20", width=4),
        data=DataConfig(name="mnist_5k"),
        optim=OptimConfig(name="adam", lr=1e-2),
        train=TrainConfig(epochs=8),
        study=StudyConfig(seeds=3, baseline="learned"),
    )


def arms() -> dict[str, dict[str, Any]]:
    """Learned; combined, of learned and of random filters; and random filters without combinations, the floor."""
    rest = f"(?!{SPATIAL}$).*=init,trained"
    return {
        "learned": {},
        "combined learned": {"filters": f"{SPATIAL}=he,trained,1;{rest}"},
        "combined random x1": {"filters": f"{SPATIAL}=he,frozen,1;{rest}"},
        "combined random x4": {"filters": f"{SPATIAL}=he,frozen,4;{rest}"},
        "random": {"filters": f"{SPATIAL}=he,frozen;{rest}"},
    }
