"""How much does the number of filters matter, to random, to unsupervised and to learned ones?

The more filters, the less it matters where they come from: Coates, Ng and Lee (2011) found that the number of features
mattered more than the way of learning them (CIFAR-10, k-means with the triangle code: 77.9% with 1600 features, 79.6%
with 4000), and Jarrett et al. (2009) that random filters come close where there are enough. Frozen filters are under a
ridge head on their own features; learned ones are trained with everything else.

    python launch.py --config=experiments/filter_width.py --workdir=runs/filter_width

About five minutes on two CPU cores. On an accelerator, with a set that TFDS has prepared:

    python launch.py --config=experiments/filter_width.py --workdir=runs/filter_width_cifar10 \
        --config.data.name=cifar10 --config.fit.patches=400000 --config.train.epochs=50
"""

from typing import Any

from cnnjax.config import Config, DataConfig, ModelConfig, OptimConfig, StudyConfig, TrainConfig
from cnnjax.study.experiment import Lines

WIDTHS = (2, 4, 8, 16, 32)
SOURCES = ("gaussian", "kmeans", "pca")


def get_config() -> Config:
    """What all arms share: one stage of 5 x 5 filters, and quadrants of 2 x 2 positions."""
    return Config(
        model=ModelConfig(name="convnet", depth=1, kernel_size=5, pool_size=4),
        data=DataConfig(name="mnist_5k"),
        optim=OptimConfig(name="adam", lr=3e-3),
        train=TrainConfig(epochs=10),
        study=StudyConfig(seeds=5, baseline="learned 32"),
    )


def arms() -> dict[str, dict[str, Any]]:
    """Each source at each width; `pca` has no more filters than a patch has numbers."""
    learned = {f"learned {width}": {"model.width": width} for width in WIDTHS}
    frozen = {
        f"{source} {width}": {
            "model.width": width,
            "filters": f"stage1/.*={source},frozen;head/.*=init,trained",
            "head.name": "ridge",
        }
        for source in SOURCES
        for width in WIDTHS
        if source != "pca" or width < 25
    }
    return {**learned, **frozen}


def lines() -> Lines:
    """A line for each source, over the width."""
    names = list(arms())
    each = {source: tuple(n for n in names if n.startswith(f"{source} ")) for source in ("learned", *SOURCES)}
    return Lines("model.width", each)
