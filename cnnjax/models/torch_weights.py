"""Published weights in torchvision's naming, from a `.safetensors` file."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
from flax import traverse_util
from safetensors.numpy import load_file

from cnnjax.config import RequestError, choose
from cnnjax.models.network import Network
from cnnjax.models.registry import build
from cnnjax.models.tracing import abstract_variables
from cnnjax.models.vgg import CONVOLUTIONS

Rename = tuple[str, Callable[..., str]]


@dataclasses.dataclass(frozen=True)
class Family:
    """How torchvision names the layers of a family of networks.

    Attributes:
      classifier: the last layer, from which the number of classes is read.
      renames: a pattern of a layer's path here, and its name there from the pattern's groups.
      flattened: weights behind a flattened grid, by their name there, with the grid's positions: torch flattens
        channels first, this project last.
      ignored: a pattern of names that may be left over.
    """

    classifier: str
    renames: Sequence[Rename]
    flattened: Mapping[str, int] = dataclasses.field(default_factory=dict)
    ignored: str = r".*\.num_batches_tracked"


def _published_name(name: str) -> str:
    """A tensor's name in torchvision's modules: the files of its DenseNets have older ones, `norm.1` for `norm1`."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv|relu))\.([12])\.", r"\1\2.", name)


def load_torch(path: str | Path, name: str, **fields: Any) -> dict[str, Any]:
    """The variables of a network from weights in torchvision's naming.

    Args:
      path: a `.safetensors` file. A pickle (`.pth`) is not read, for it can run any code.
      name: a network that torchvision has too: alexnet, vgg11 to vgg19 and their `_bn` forms, googlenet, resnet18 to
        resnet152, densenet121 to densenet201.
      **fields: as given to `build`, such as `auxiliary=True`.

    Returns:
      `params` and `batch_stats` for `build(name, num_classes=..., **fields)`, with as many classes as the file's last
      layer. The logits are torch's to 1e-4; those of GoogLeNet's published weights, for standardised images as torch
      has them, with the field `transform_input=True`.

    Raises:
      RequestError: for a network without a counterpart, or a file that is no safetensors file or does not fit: the
        first tensors that are missing, left over or of another shape are named.
    """
    return published_network(path, name, **fields)[1]


def published_network(path: str | Path, name: str, **fields: Any) -> tuple[Network, dict[str, Any]]:
    """The network of weights in torchvision's naming, and its variables; arguments and errors as in `load_torch`."""
    family = choose(FAMILIES, name, "network with published weights")
    tensors = {_published_name(there): tensor for there, tensor in read_tensors(path).items()}
    classifier = f"{family.classifier}.weight"
    if classifier not in tensors or tensors[classifier].ndim != 2:
        raise RequestError(f"{path} does not fit {name}: missing {classifier} [classes, features]")
    model = build(name, num_classes=len(tensors[classifier]), **fields)
    wanted = traverse_util.flatten_dict(abstract_variables(model, (224, 224, 3)), sep="/")
    names = {place: torch_name(place, family) for place in wanted}
    found, misshapen = {}, []
    for place, there in names.items():
        if there in tensors:
            found[place] = _arrange(tensors[there], family.flattened.get(there, 1))
            if found[place].shape != wanted[place].shape:
                shapes = f"{tensors[there].shape}: it does not make {wanted[place].shape}"
                misshapen.append(f"{there} {shapes}")
    unknown = sorted(set(tensors) - set(names.values()))
    problems = {
        "missing": [there for there in names.values() if there not in tensors],
        "misshapen": misshapen,
        "left over": [there for there in unknown if not re.fullmatch(family.ignored, there)],
    }
    if any(problems.values()):
        told = (
            f"{what} {', '.join(which[:2])}" + (f" and {len(which) - 2} more" if len(which) > 2 else "")
            for what, which in problems.items()
            if which
        )
        raise RequestError(f"{path} does not fit {name}: {'; '.join(told)}")
    variables = {place: jnp.asarray(array, jnp.float32) for place, array in found.items()}
    return model, traverse_util.unflatten_dict(variables, sep="/")


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a `.safetensors` file by name.

    Raises:
      RequestError: if it is not there, or no such file.
    """
    try:
        return load_file(path)
    except OSError as error:
        reason = "a folder" if Path(path).is_dir() else error.strerror or error
        raise RequestError(f"{path}: {reason}; name a .safetensors file") from None
    except safetensors.SafetensorError as error:
        raise RequestError(f"{path}: no safetensors file ({error}); save a state dict with safetensors.torch") from None


def is_torchs(tensors: Mapping[str, np.ndarray], name: str) -> bool:
    """Whether tensors are named as torchvision names those of a network."""
    return name in FAMILIES and f"{FAMILIES[name].classifier}.weight" in tensors


def torch_name(place: str, family: Family) -> str:
    """torchvision's name of a variable, such as `params/stem/conv/kernel` or `batch_stats/stem/norm/mean`.

    Raises:
      RequestError: for one that torchvision's network does not have.
    """
    layer, _, leaf = place.partition("/")[2].rpartition("/")
    for pattern, rename in family.renames:
        if match := re.fullmatch(pattern, layer):
            return f"{rename(*match.groups())}.{_LEAVES[leaf]}"
    raise RequestError(f"{place} has no counterpart in torchvision's network; leave its fields as published")


_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def _arrange(tensor: np.ndarray, positions: int) -> np.ndarray:
    """torch's [F, C, *window] as [*window, C, F], and [F, C * positions] as [positions * C, F]."""
    if tensor.ndim == 2 and tensor.shape[1] % positions == 0:
        grid = tensor.reshape(len(tensor), -1, positions)
        return grid.transpose(2, 1, 0).reshape(-1, len(tensor))
    return np.moveaxis(tensor, (0, 1), (-1, -2)) if tensor.ndim > 2 else tensor


def _before(number: str) -> int:
    """torch counts blocks from 0."""
    return int(number) - 1


_RESNET = Family(
    "fc",
    (
        (r"stem/conv", lambda: "conv1"),
        (r"stem/norm", lambda: "bn1"),
        (r"stage(\d)/block(\d+)/branch/conv(\d)/conv", lambda s, b, c: f"layer{s}.{_before(b)}.conv{c}"),
        (r"stage(\d)/block(\d+)/branch/conv(\d)/norm", lambda s, b, c: f"layer{s}.{_before(b)}.bn{c}"),
        (r"stage(\d)/block(\d+)/shortcut/conv", lambda s, b: f"layer{s}.{_before(b)}.downsample.0"),
        (r"stage(\d)/block(\d+)/shortcut/norm", lambda s, b: f"layer{s}.{_before(b)}.downsample.1"),
        (r"head/dense", lambda: "fc"),
    ),
)

_DENSENET = Family(
    "classifier",
    (
        (r"stem/conv", lambda: "features.conv0"),
        (r"stem/norm", lambda: "features.norm0"),
        (
            r"stage(\d)/dense/layer(\d+)/conv(\d)/(conv|norm)",
            lambda s, layer, c, kind: f"features.denseblock{s}.denselayer{layer}.{kind}{c}",
        ),
        (r"stage(\d)/transition/conv/(conv|norm)", lambda s, kind: f"features.transition{s}.{kind}"),
        (r"head/before/norm", lambda: "features.norm5"),
        (r"head/dense", lambda: "classifier"),
    ),
)

_ALEXNET = Family(
    "classifier.6",
    (
        (r"stage([1-5])/conv", lambda s: f"features.{(0, 3, 6, 8, 10)[_before(s)]}"),
        (r"stage6/block/dense", lambda: "classifier.1"),
        (r"stage7/block/dense", lambda: "classifier.4"),
        (r"head", lambda: "classifier.6"),
    ),
    {"classifier.1.weight": 6 * 6},
)

_TORCH_PARTS = {"conv": "conv", "norm": "bn"}
_TORCH_BRANCHES = {
    "branch1": "branch1",
    "branch2/reduction": "branch2.0",
    "branch2/conv": "branch2.1",
    "branch3/reduction": "branch3.0",
    "branch3/conv": "branch3.1",
    "branch4/projection": "branch4.1",
}
_GOOGLENET = Family(
    "fc",
    (
        (r"stem/(conv\d)/(conv|norm)", lambda conv, part: f"{conv}.{_TORCH_PARTS[part]}"),
        (
            r"stage\d/(inception\d\w)/(branch.*)/(conv|norm)",
            lambda module, branch, part: f"{module}.{_TORCH_BRANCHES[branch]}.{_TORCH_PARTS[part]}",
        ),
        (r"stage4/auxiliary(\d)/head/conv/(conv|norm)", lambda n, part: f"aux{n}.conv.{_TORCH_PARTS[part]}"),
        (r"stage4/auxiliary(\d)/head/dense/dense", lambda n: f"aux{n}.fc1"),
        (r"stage4/auxiliary(\d)/head/logits", lambda n: f"aux{n}.fc2"),
        (r"head/dense", lambda: "fc"),
    ),
    {"aux1.fc1.weight": 4 * 4, "aux2.fc1.weight": 4 * 4},
    # torchvision's file has the auxiliary heads, whether they are wanted or not.
    r".*\.num_batches_tracked|aux[12]\..*",
)


def _vgg(convolutions: Sequence[int], norm: bool) -> Family:
    """torchvision numbers the layers of VGG in one row, detectors and pooling included."""
    numbers: dict[tuple[str, str], int] = {}
    number = 0
    for stage, count in enumerate(convolutions, start=1):
        for block in range(1, count + 1):
            numbers[str(stage), str(block)] = number
            number += 3 if norm else 2
        number += 1
    return Family(
        "classifier.6",
        (
            (r"stage(\d)/block(\d)/conv", lambda stage, block: f"features.{numbers[stage, block]}"),
            (r"stage(\d)/block(\d)/norm", lambda stage, block: f"features.{numbers[stage, block] + 1}"),
            (r"stage6/block/dense", lambda: "classifier.0"),
            (r"stage7/block/dense", lambda: "classifier.3"),
            (r"head/dense", lambda: "classifier.6"),
        ),
        {"classifier.0.weight": 7 * 7},
    )


FAMILIES: dict[str, Family] = {
    "alexnet": _ALEXNET,
    "googlenet": _GOOGLENET,
    **{f"resnet{depth}": _RESNET for depth in (18, 34, 50, 101, 152)},
    **{f"densenet{depth}": _DENSENET for depth in (121, 161, 169, 201)},
    **{name: _vgg(convolutions, norm=False) for name, convolutions in CONVOLUTIONS.items()},
    **{f"{name}_bn": _vgg(convolutions, norm=True) for name, convolutions in CONVOLUTIONS.items()},
}
"""The networks that torchvision publishes weights of."""
