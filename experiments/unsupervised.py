"""How far do filters come that have seen no label?

One layer of centroids (Coates, Ng and Lee 2011, "An analysis of single-layer networks in unsupervised feature
learning"), and PCANet (Chan et al. 2015, "PCANet: a simple deep learning baseline for image classification?"), each
under a ridge head. On CIFAR-10, with 1600 features and a linear SVM, the first found 77.9% for k-means with the
triangle code, 68.6% with the hard one and 73.4% for a sparse autoencoder; Coates and Ng (2011) found 79.1% for mere
random patches under a soft threshold. On MNIST the second has an error of 0.66% with two stages of principal
components, and of 0.63% with two of random filters. So the code may count for more than the way the filters are
learned.

    python launch.py --config=experiments/unsupervised.py --workdir=runs/unsupervised

About five minutes on two CPU cores. At the first paper's size, on an accelerator, with a set that TFDS has prepared:

    python launch.py --config=experiments/unsupervised.py --workdir=runs/unsupervised_cifar10 \
        --arms="linear,kmeans triangle,kmeans hard,patches soft threshold" --config.data.name=cifar10 \
        --config.model.width=1600 --config.fit.patches=400000
"""

import itertools
from typing import Any

from cnnjax.config import Config, DataConfig, HeadConfig, ModelConfig, StudyConfig

CODES = {"triangle": "triangle", "hard": "hard", "soft threshold": "soft_threshold"}
CENTROIDS = ("kmeans", "patches", "gaussian")
# The autoencoder's units are sigmoids of filters, not distances to centroids: a stage with such windows and quadrants.
SIGMOIDS = {
    "model.name": "convnet",
    "model.depth": 1,
    "model.act": "sigmoid",
    "model.padding": "valid",
    "model.pool": "adaptive_average",
    "model.width": 100,
    "model.kernel_size": 6,
}
PCANET = {"model.name": "pcanet", "model.width": 4}


def get_config() -> Config:
    """What all arms share: windows of 6 x 6, whitened, in the place of the paper's 1600 centroids 100."""
    return Config(
        model=ModelConfig(name="coates", width=100),
        data=DataConfig(name="mnist_5k"),
        head=HeadConfig(name="ridge"),
        study=StudyConfig(seeds=3, baseline="kmeans triangle"),
    )


def arms() -> dict[str, dict[str, Any]]:
    """Each kind of centroids with each code; the best without whitening; an autoencoder; PCANet; the floor."""
    codes = {
        f"{source} {name}": {"model.act": act, "filters": plan("whiten=zca", f"code={source}")}
        for source, (name, act) in itertools.product(CENTROIDS, CODES.items())
    }
    return {
        **codes,
        "kmeans triangle, not whitened": {"filters": plan("whiten=init", "code=kmeans")},
        "autoencoder": {**SIGMOIDS, "filters": plan("stage1=autoencoder")},
        "pcanet": {**PCANET, "filters": plan("stage1=pca", "stage2=pca")},
        "pcanet, random": {**PCANET, "filters": plan("stage1=gaussian", "stage2=gaussian")},
        "linear": {"model.name": "logistic"},
    }


def plan(*stages: str) -> str:
    """The filter plan with these stages frozen, each written STAGE=SOURCE."""
    frozen = [f"{stage}/.*={source},frozen" for stage, source in (text.split("=") for text in stages)]
    return ";".join([*frozen, "head/.*=init,trained"])
