"""How much of a CNN's accuracy comes from learning its filters?

Convolution stages that are drawn at random and never trained, under a linear head that is, against the same network
trained whole, and against a linear classifier on the raw pixels. The lectures say that random filters often work
surprisingly well; Jarrett et al. (2009) found 62.9% with random and 65.5% with learned filters on Caltech-101, and
Saxe et al. (2011) explain why: convolution and pooling are frequency selective and translation invariant by themselves.

    python launch.py --config=experiments/random_filters.py --workdir=runs/random_filters

`filter_sources.py` asks it of every source of filters, `jarrett.py` with and without rectification, normalisation and
pooling.

About two minutes on two CPU cores. On an accelerator, with a set that TFDS has prepared:

    python launch.py --config=experiments/random_filters.py --workdir=runs/random_filters_cifar10 \
        --config.data.name=cifar10 --config.model.width=64 --config.model.depth=3 --config.train.epochs=50
"""

from typing import Any

from cnnjax.config import Config, DataConfig, ModelConfig, OptimConfig, StudyConfig, TrainConfig


def get_config() -> Config:
    """What all arms share."""
    return Config(
        model=ModelConfig(name="convnet", width=8, depth=2, kernel_size=5),
        data=DataConfig(name="mnist_5k"),
        optim=OptimConfig(name="adam", lr=3e-3, schedule="cosine"),
        train=TrainConfig(epochs=10, batch_size=64),
        study=StudyConfig(seeds=5, baseline="learned"),
    )


def arms() -> dict[str, dict[str, Any]]:
    """Only the head is trained in the random arms."""
    random = {name: {"filters": f"(?!head/).*={name},frozen;head/.*=init,trained"} for name in DISTRIBUTIONS}
    return {"learned": {}, **random, "linear": {"model": ModelConfig(name="logistic")}}


DISTRIBUTIONS = ("gaussian", "uniform", "orthogonal", "signs")
