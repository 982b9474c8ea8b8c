"""How far does a network get that learns nothing but the scales and shifts of its batch norms?

Frankle, Schwab and Morcos (2021): with every other parameter at its random start, the head's too, a ResNet of depth 866
reaches 82% on CIFAR-10. Which random features there are is fixed; the norms choose among them, and switch many off.

    python launch.py --config=experiments/batchnorm_only.py --workdir=runs/batchnorm_only

About six minutes on two CPU cores. On an accelerator, with a set that TFDS has prepared:

    python launch.py --config=experiments/batchnorm_only.py --workdir=runs/batchnorm_only_cifar10 \
        --config.model.name=resnet110 --config.data.name=cifar10 --config.data.augment=shift,flip \
        --config.data.max_shift=4 --config.train.epochs=160 --config.optim.name=sgd --config.optim.lr=0.1
"""

from typing import Any

from cnnjax.config import Config, DataConfig, ModelConfig, OptimConfig, StudyConfig, TrainConfig

NORMS = ".*/norm/.*"


def get_config() -> Config:
    """What all arms share."""
    return Config(
        model=ModelConfig(name="resnet20", width=4),
        data=DataConfig(name="mnist_5k"),
        optim=OptimConfig(name="adam", lr=1e-2),
        train=TrainConfig(epochs=8),
        study=StudyConfig(seeds=3, baseline="all"),
    )


def arms() -> dict[str, dict[str, Any]]:
    """What is trained; all else stays as it was drawn."""
    return {
        "all": {},
        "norms and head": {"filters": f"{NORMS}=init,trained;head/.*=init,trained;(?!{NORMS}$|head/).*=init,frozen"},
        "norms": {"filters": f"{NORMS}=init,trained;(?!{NORMS}$).*=init,frozen"},
        "head": {"filters": "head/.*=init,trained;(?!head/).*=init,frozen"},
    }
