"""How far up are features general?

Filters that were learned on one task are frozen, stage by stage, under layers that are learned on another (Yosinski et
al. 2014, "How transferable are features in deep neural networks?"): general features serve as well as learned ones,
special ones cost accuracy. The first task is to tell the digits 0 to 4 apart, the second 5 to 9; the same stages with
random filters are the floor.

    python launch.py --config=experiments/transfer.py --workdir=runs/transfer

About three minutes on two CPU cores. On an accelerator, with a set that TFDS has prepared:

    python launch.py --config=experiments/transfer.py --workdir=runs/transfer_cifar10 \
        --config.data.name=cifar10 --config.model.width=64 --config.train.epochs=50

Filters of another study's runs are taken by `checkpoint:PATH/runs/ARM/seed{seed}` in the place of `arm:first task`,
PATH being that study's workdir and `{seed}` left as it is: a run takes the filters of the run with its own seed. From
the command line, in double quotes if PATH has `=` or `;` in it:

    --config.filters="stage1/.*=checkpoint:runs/transfer/runs/first task/seed{seed},frozen;(?!stage1/).*=init,trained"
"""

from typing import Any

from cnnjax.config import Config, DataConfig, ModelConfig, OptimConfig, StudyConfig, TrainConfig

DEPTH = 3


def get_config() -> Config:
    """The second task, which all arms but `first task` are measured on."""
    return Config(
        model=ModelConfig(name="convnet", width=8, depth=DEPTH, kernel_size=5),
        data=DataConfig(name="mnist_5k", classes=(5, 6, 7, 8, 9)),
        optim=OptimConfig(name="adam", lr=3e-3),
        train=TrainConfig(epochs=10),
        study=StudyConfig(seeds=5, baseline="learned"),
    )


def arms() -> dict[str, dict[str, Any]]:
    """The first `stages` stages frozen, from the first task or at random; what is above them learned."""
    found: dict[str, dict[str, Any]] = {"first task": {"data.classes": (0, 1, 2, 3, 4)}, "learned": {}}
    for stages in range(1, DEPTH + 1):
        for name, source in (("transferred", "arm:first task"), ("random", "gaussian")):
            frozen = f"stage[1-{stages}]/.*"
            found[f"{name} to stage {stages}"] = {"filters": f"{frozen}={source},frozen;(?!{frozen}$).*=init,trained"}
    return found
