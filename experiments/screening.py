"""Can random filters choose the architecture?

Saxe et al. (2011) found that an architecture's accuracy with random filters foretells its accuracy after training, so
that the search for one costs about 30 times less. Here each architecture is run with random frozen filters under a
ridge head, and then trained in full; the report has the rank correlations with their intervals, what the choice would
have cost in accuracy (the regret of the top k) and saved in time, and the same for baselines that need no run at all.

    python launch.py --config=experiments/screening.py --workdir=runs/screening [--top=5]

With `--top=K` only the K architectures that the random filters rank highest are trained. About twelve minutes on two
CPU cores without it, most of which is training: on 717,000 signals, where the published recipe of these has 600,000.
On an accelerator, with a set that TFDS has prepared:

    python launch.py --config=experiments/screening.py --workdir=runs/screening_cifar10 \
        --config.data.name=cifar10 --config.train.epochs=50 --seeds=5
"""

import itertools
from typing import Any

from cnnjax.config import Config, DataConfig, OptimConfig, StudyConfig, TrainConfig

WINDOWS, WIDTHS, DEPTHS = (3, 7), (4, 16), (1, 2)
# Kind, size and stride.
POOLS = (("max", 2, 2), ("max", 3, 2), ("average", 2, 2), ("average", 3, 3))
RANDOM = {"filters": "stage.*=gaussian,frozen;head/.*=init,trained", "head.name": "ridge"}


def get_config() -> Config:
    """What all arms share."""
    return Config(
        data=DataConfig(name="mnist1d"),
        optim=OptimConfig(name="adam", lr=3e-3),
        train=TrainConfig(epochs=200, eval_every=20),
        study=StudyConfig(seeds=3, baseline="linear on pixels"),
    )


def architectures() -> dict[str, dict[str, Any]]:
    """Filter size, filters, depth, and the pooling's kind, size and stride."""
    return {
        f"k{window} w{width} d{depth} {pool}{size} s{stride}": {
            "model.kernel_size": window,
            "model.width": width,
            "model.depth": depth,
            "model.pool": pool,
            "model.pool_size": size,
            "model.pool_stride": stride,
        }
        for window, width, depth, (pool, size, stride) in itertools.product(WINDOWS, WIDTHS, DEPTHS, POOLS)
    }


def arms() -> dict[str, dict[str, Any]]:
    """Each architecture with random filters and trained; and the floor."""
    found = architectures()
    return {
        "linear on pixels": {"model.name": "logistic", "head.name": "ridge"},
        **{f"{name} random": {**fields, **RANDOM} for name, fields in found.items()},
        **{f"{name} trained": fields for name, fields in found.items()},
    }


def screening() -> dict[str, tuple[str, str]]:
    """The pair of arms of each architecture."""
    return {name: (f"{name} random", f"{name} trained") for name in architectures()}
