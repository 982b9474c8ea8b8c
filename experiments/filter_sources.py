"""Which filters that are not learned from labels serve best?

Convolution stages that are drawn at random, fixed by a formula or learned without labels, and then frozen, under a
linear head, against the same network trained whole, and against a linear classifier on the raw pixels. The lectures say
that random filters often work surprisingly well; Jarrett et al. (2009) found 62.9% with random and 65.5% with learned
filters on Caltech-101, and Saxe et al. (2011) explain why: convolution and pooling are frequency selective and
translation invariant by themselves. The head of frozen filters is ridge regression, its strength chosen on validation.
`experiments/jarrett.py` has these filters with and without rectification, normalisation and pooling.

    python launch.py --config=experiments/filter_sources.py --workdir=runs/filter_sources

About five minutes on two CPU cores. On an accelerator, with a set that TFDS has prepared:

    python launch.py --config=experiments/filter_sources.py --workdir=runs/filter_sources_cifar10 \
        --config.data.name=cifar10 --config.model.width=64 --config.model.depth=3 --config.train.epochs=50
"""

from typing import Any

from cnnjax.config import Config, DataConfig, FitConfig, ModelConfig, OptimConfig, StudyConfig, TrainConfig

RANDOM = ("gaussian", "uniform", "orthogonal", "signs", "smoothed", "glorot", "he", "lecun", "torch")
FIXED = ("classic", "gabor", "dct", "gaussian_derivatives", "dirac")
# All but whitening (zca), whose filters are as many as a window's values.
UNSUPERVISED = ("patches", "kmeans", "pca", "autoencoder")


def get_config() -> Config:
    """What all arms share."""
    return Config(
        model=ModelConfig(name="convnet", width=8, depth=2, kernel_size=5),
        data=DataConfig(name="mnist_5k"),
        fit=FitConfig(patches=5000, iterations=20),
        optim=OptimConfig(name="adam", lr=3e-3, schedule="cosine"),
        train=TrainConfig(epochs=10, batch_size=64),
        study=StudyConfig(seeds=5, baseline="learned"),
    )


def arms() -> dict[str, dict[str, Any]]:
    """Only the head is found in the frozen arms."""
    frozen: dict[str, dict[str, Any]] = {
        source: {"filters": f"(?!head/).*={source},frozen;head/.*=init,trained", "head.name": "ridge"}
        for source in (*RANDOM, *FIXED, *UNSUPERVISED)
    }
    frozen["autoencoder"]["model.act"] = "sigmoid"  # which its units are
    return {"learned": {}, **frozen, "linear": {"model": ModelConfig(name="logistic"), "head.name": "ridge"}}
