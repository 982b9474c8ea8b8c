"""What a study can be asked to do: typed, validated, overridable.

A value of the wrong type or out of range, and a name that does not exist, raise `RequestError` with one line that says
what was given and what would be right. This package imports no other room of the project.
"""

from cnnjax.config.errors import RequestError, choose, nearest
from cnnjax.config.overriding import check_path, explain, field_paths, flatten, from_dict, is_whole, override, to_dict
from cnnjax.config.sections import (
    Config,
    DataConfig,
    FilterRule,
    FitConfig,
    HeadConfig,
    MeasureConfig,
    ModelConfig,
    OptimConfig,
    StudyConfig,
    TrainConfig,
)
from cnnjax.config.text import as_text

__all__ = [
    "Config",
    "DataConfig",
    "FilterRule",
    "FitConfig",
    "HeadConfig",
    "MeasureConfig",
    "ModelConfig",
    "OptimConfig",
    "RequestError",
    "StudyConfig",
    "TrainConfig",
    "as_text",
    "check_path",
    "choose",
    "explain",
    "field_paths",
    "flatten",
    "from_dict",
    "is_whole",
    "nearest",
    "override",
    "to_dict",
]
