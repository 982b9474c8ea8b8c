"""Do rectification, normalisation and pooling matter more than the filters?

The table of Jarrett, Kavukcuoglu, Ranzato and LeCun (2009), "What is the best multi-stage architecture for object
recognition?": filters random, unsupervised and learned, with and without rectification by the absolute value, with and
without local contrast normalisation, under average pooling, max pooling and none (every other position is kept, so that
the features stay as many). On Caltech-101 they found 62.9% with random frozen filters and 33.7% for the same without
rectification and normalisation, 65.5% with learned ones. More sources of filters are under the best and the barest of
these sets of layers.

    python launch.py --config=experiments/jarrett.py --workdir=runs/jarrett

About a quarter of an hour on two CPU cores. Nearer to the paper, on an accelerator, with a set that TFDS has prepared:

    python launch.py --config=experiments/jarrett.py --workdir=runs/jarrett_cifar10 \
        --config.data.name=cifar10 --config.model.width=64 --config.model.kernel_size=9 --config.train.epochs=50
"""

import itertools
from typing import Any

from cnnjax.config import Config, DataConfig, ModelConfig, OptimConfig, StudyConfig, TrainConfig

FROZEN = ("gaussian", "kmeans")
# All but whitening, whose filters are as many as a window's values, and the autoencoder, whose units are sigmoids.
RANDOM = ("uniform", "signs", "orthogonal", "smoothed", "glorot", "he", "lecun", "torch")
FIXED = ("classic", "gabor", "dct", "gaussian_derivatives", "dirac")
MORE_FROZEN = (*RANDOM, *FIXED, "patches", "pca")
LAYERS = {
    f"{rectified}{normalised}{pool}": {"model.act": act, "model.norm": norm, "model.pool": pool}
    for (rectified, act), (normalised, norm), pool in itertools.product(
        (("abs ", "abs_tanh"), ("", "tanh")), (("norm ", "local_contrast"), ("", "none")), ("average", "max", "stride")
    )
}
EXTREMES = ("abs norm average", "stride")


def get_config() -> Config:
    """What all arms share."""
    return Config(
        model=ModelConfig(name="jarrett", width=8),
        data=DataConfig(name="mnist_5k"),
        optim=OptimConfig(name="adam", lr=3e-3),
        train=TrainConfig(epochs=5),
        study=StudyConfig(seeds=3, baseline="learned, abs norm average"),
    )


def arms() -> dict[str, dict[str, Any]]:
    """Each source of filters with its sets of layers; frozen filters are under a ridge head."""
    found: dict[str, dict[str, Any]] = {f"learned, {name}": fields for name, fields in LAYERS.items()}
    pairs = [*itertools.product(FROZEN, LAYERS), *itertools.product(MORE_FROZEN, EXTREMES)]
    for source, name in pairs:
        frozen = {"filters": f"stage.*={source},frozen;head/.*=init,trained", "head.name": "ridge"}
        found[f"{source}, {name}"] = {**LAYERS[name], **frozen}
    return found
