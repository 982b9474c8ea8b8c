"""Does a study of seconds work?

A convnet with batch norm, dropout and augmentation, so that every stream of randomness and all state is in play.
"""

from typing import Any

from cnnjax.config import Config, DataConfig, ModelConfig, OptimConfig, StudyConfig, TrainConfig


def get_config() -> Config:
    """What all arms share."""
    return Config(
        model=ModelConfig(name="convnet", width=4, depth=1, kernel_size=3, norm="batch", dropout=0.2),
        data=DataConfig(name="digits_8x8", augment=("shift",), max_shift=1),
        optim=OptimConfig(name="sgd", lr=0.05, weight_decay=1e-3),
        train=TrainConfig(epochs=4, batch_size=32, eval_batch_size=64, save_every=0),
        study=StudyConfig(seeds=1, pack=1),
    )


def arms() -> dict[str, dict[str, Any]]:
    """One that learns, one whose first stage is frozen."""
    return {"learned": {}, "frozen": {"filters": "stage1/.*=gaussian,frozen;head/.*=init,trained"}}
