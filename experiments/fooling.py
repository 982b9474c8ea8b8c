"""Whose fault is it that networks are fooled: the learned filters', or the layers' themselves?

Goodfellow et al. (2015) blame that networks are nearly linear, which random filters would be as well; Nguyen et al.
(2015) make images of noise that networks are certain of. Networks of random, unsupervised and learned filters, learned
ones with shifted examples or dropout, and a linear classifier are attacked: accuracy over the size of the change, of
images made for this network and for the others (`transfer`), and images from noise that fool it (`fooling`).

    python launch.py --config=experiments/fooling.py --workdir=runs/fooling

About six minutes on two CPU cores, most of it for attacks. On an accelerator, with a set that TFDS has prepared:

    python launch.py --config=experiments/fooling.py --workdir=runs/fooling_cifar10 \
        --config.data.name=cifar10 --config.model.width=64 --config.model.depth=3 --config.train.epochs=50 \
        --config.measures.images=1000 --config.measures.epsilons=0,0.008,0.016,0.031,0.05,0.1
"""

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


def get_config() -> Config:
    """What all arms share."""
    return Config(
        model=ModelConfig(name="convnet", width=8, depth=2, kernel_size=5),
        data=DataConfig(name="mnist_5k"),
        fit=FitConfig(patches=5000, iterations=20),
        optim=OptimConfig(name="adam", lr=3e-3),
        train=TrainConfig(epochs=10),
        measures=MeasureConfig(names=("robustness", "transfer", "fooling"), images=200),
        study=StudyConfig(seeds=3, baseline="learned"),
    )


def arms() -> dict[str, dict[str, Any]]:
    """All heads are trained by gradients, so that all logits are on one scale."""
    return {
        "learned": {},
        "augmented": {"data.augment": ("shift",)},
        "dropout": {"model.dropout": 0.5},
        "random": {"filters": "stage.*=gaussian,frozen;head/.*=init,trained"},
        "kmeans": {"filters": "stage.*=kmeans,frozen;head/.*=init,trained"},
        "linear": {"model": ModelConfig(name="logistic")},
    }


def columns() -> dict[str, Column]:
    """Under attack by projected gradients, on images made for other arms at the middle one of the sizes (0.1), and of
    images of noise."""
    return {
        "accuracy at 0.05 in L-inf (%)": Column("pgd_linf/accuracy", magnitude=0.05),
        "accuracy at 0.1 in L-inf (%)": Column("pgd_linf/accuracy", magnitude=0.1),
        "accuracy at 1 in L2 (%)": Column("pgd_l2/accuracy", magnitude=1.0),
        "brought to a target at 0.1 (%)": Column("pgd_linf_targeted/success", magnitude=0.1),
        "on the learned arm's images (%)": Column("transfer/from learned/accuracy"),
        "on the random arm's images (%)": Column("transfer/from random/accuracy"),
        "confidence in noise by gradients (%)": Column("fooling by gradient"),
        "confidence in noise by evolution (%)": Column("fooling by evolution"),
    }
