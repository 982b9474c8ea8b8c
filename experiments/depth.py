"""Why do deeper networks need shortcuts and norms?

He et al. (2016): plain networks get worse with depth, in training too, and residual ones better; on CIFAR-10 ResNet-20
to -110 have errors of 8.75, 7.51, 7.17, 6.97 and 6.43%. Their plain networks had batch norm, so that vanishing
gradients alone were not the reason. Here plain, residual and densely connected networks (Huang et al. 2017) of growing
depth are trained with and without batch norm, and their gradients measured layer by layer. Plain and residual networks
of a depth have the same parameters. Of the dense ones there are those published: 40 layers, and 100 with bottlenecks.

    python launch.py --config=experiments/depth.py --workdir=runs/depth

About half an hour on two CPU cores, nearly all of it for compiling, most of that for the dense networks. The paper's,
on an accelerator, with the set that TFDS has prepared (the width is the dense networks' growth rate too, where theirs
was 12):

    python launch.py --config=experiments/depth.py --workdir=runs/depth_cifar10 \
        --config.model.width=16 --config.data.name=cifar10 --config.data.augment=shift,flip --config.data.max_shift=4 \
        --config.train.epochs=164 --config.train.batch_size=128 --config.optim.name=sgd --config.optim.lr=0.1 \
        --config.optim.weight_decay=1e-4 --config.optim.schedule=step
"""

import itertools
from typing import Any

from cnnjax.config import Config, DataConfig, MeasureConfig, ModelConfig, OptimConfig, StudyConfig, TrainConfig
from cnnjax.study.experiment import Column

DEPTHS = (20, 32, 56)
NETWORKS = {
    **{f"plain {depth}": f"plain{depth}" for depth in DEPTHS},
    **{f"residual {depth}": f"resnet{depth}" for depth in DEPTHS},
    "dense 40": "densenet_40_12",
    "dense 100": "densenet_bc_100_12",
}
NORMS = {"norm": "batch", "no norm": "none"}


def get_config() -> Config:
    """What all arms share."""
    return Config(
        model=ModelConfig(width=4),
        data=DataConfig(name="digits_8x8"),
        optim=OptimConfig(name="adam", lr=3e-3),
        train=TrainConfig(epochs=10, eval_every=2),
        measures=MeasureConfig(names=("gradients",), images=200),
        study=StudyConfig(seeds=3, baseline="plain 20 norm"),
    )


def arms(config: Config) -> dict[str, dict[str, Any]]:
    """Each network with and without norm, all of the config's width."""
    return {
        f"{network} {norm}": {
            "model.name": NETWORKS[network],
            "model.norm": NORMS[norm],
            "model.width": config.model.width,
        }
        for network, norm in itertools.product(NETWORKS, NORMS)
    }


def columns() -> dict[str, Column]:
    """What reaches the first layers, of what reaches the head, before training and after."""
    return {
        f"gradient at the {place}, {when}": Column(f"output_gradient_norm{metric}", stage)
        for when, metric in (("at the start", "_at_start"), ("trained", ""))
        for place, stage in (("input", "input"), ("logits", "head"))
    }
