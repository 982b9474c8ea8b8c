"""What is a network's prior worth where it is right, and what does it cost where it is wrong?

A convolution is a dense layer with an infinitely strong prior: that what matters is local, and the same everywhere. The
lectures say that such a prior makes a network underfit where it is wrong. Greydanus (2020) makes it wrong by shuffling
the positions of MNIST-1D, the same way in every example. He found these test accuracies (%), in order and shuffled:
logistic regression 32 and 32, the dense network 68 and 68 (his own notebook gives 64 to 66), the convolutional one 94
and 56, the recurrent one 91 and 57. The sizes and the training are his: Adam at 1e-2, batches of 100, 6,000 steps, no
weight decay, and the last step is what is tested. Locally connected layers, convolutions that share no weights, and
smaller training sets tell the two halves of the prior apart. A network that underfits gets its training examples wrong
too: these are classified at the end.

    python launch.py --config=experiments/prior.py --workdir=runs/prior

About eleven minutes on two CPU cores; a part of it is asked for by `--arms`. On an accelerator, with images that
TFDS has prepared (the recurrent network takes sequences alone):

    python launch.py --config=experiments/prior.py --workdir=runs/prior_cifar10 --config.data.name=cifar10 \
        --arms="local 3990 ordered,local 3990 shuffled,conv 3990 ordered,conv 3990 shuffled"
"""

import itertools
from typing import Any

from cnnjax.config import Config, DataConfig, MeasureConfig, OptimConfig, StudyConfig, TrainConfig
from cnnjax.study.experiment import Column, Lines

BATCH, STEPS = 100, 6000
SIZES = (100, 400, 1600, 3990)
ORDERS: dict[str, dict[str, Any]] = {"ordered": {}, "shuffled": {"data.shuffled": True}}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"model.name": "mlp", "model.init": "torch"},
    "local": {"model.name": "convnet_mnist1d", "model.init": "torch", "model.connectivity": "local"},
    "conv": {"model.name": "convnet_mnist1d", "model.init": "torch"},
}


def get_config() -> Config:
    """What all arms share: one validation example of each class, and no evaluation before the end."""
    return Config(
        data=DataConfig(name="mnist1d", validation=0.0025),
        optim=OptimConfig(name="adam", lr=1e-2, schedule="constant"),
        train=TrainConfig(batch_size=BATCH),
        measures=MeasureConfig(names=("confusion",), split="train", images=4000),
        study=StudyConfig(seeds=5, baseline="conv 3990 ordered"),
    )


def training(size: int) -> dict[str, Any]:
    """So many examples, for all the steps."""
    epochs = STEPS / (size // BATCH)
    return {"data.examples": size, "train.epochs": epochs, "train.eval_every": epochs}


def arms() -> dict[str, dict[str, Any]]:
    """The table's, and those with a line over the training set's size."""
    table = {
        f"{name} {order}": {"model.name": name, **ORDERS[order], **training(SIZES[-1])}
        for name, order in itertools.product(("logistic", "gru"), ORDERS)
    }
    sized = {
        f"{name} {size} {order}": {**NETWORKS[name], **ORDERS[order], **training(size)}
        for name, order, size in itertools.product(NETWORKS, ORDERS, SIZES)
    }
    return {**table, **sized}


def lines() -> Lines:
    """A line for each network in each order, over the training set's size."""
    return Lines(
        "data.examples",
        {
            f"{name} {order}": tuple(f"{name} {size} {order}" for size in SIZES)
            for name, order in itertools.product(NETWORKS, ORDERS)
        },
    )


def columns() -> dict[str, Column]:
    """Whether the training examples are learned."""
    return {"training accuracy (%)": Column("recall/all")}
