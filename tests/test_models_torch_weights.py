"""Weights in torchvision's naming: logits that torchvision itself gave, and files that do not fit."""

import math
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file, save_file

import cnnjax
from cnnjax.config import RequestError
from cnnjax.models import load_torch
from cnnjax.models.registry import build
from cnnjax.models.torch_weights import FAMILIES, torch_name

# Of torchvision 0.29 with the weights of `waves` on `IMAGE`, three classes.
LOGITS = {
    "alexnet": [1.226096, 3.408074, 5.420817],
    "vgg11": [4.817492, 4.704689, 4.366958],
    "vgg11_bn": [4.81727, 4.70447, 4.366752],
    "googlenet": [19.45878, 13.21242, 6.906447],
    "resnet18": [-3.115431, 3.149242, -2.6529],
    "resnet50": [-31.54707, -18.3386, -4.955598],
    "densenet121": [-35.21748, -34.71973, -34.12597],
}
IMAGE = np.sin(np.arange(64 * 64 * 3) * 0.37).reshape(1, 64, 64, 3).astype(np.float32)


def waves(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor's values from its name and PyTorch's shape: kernels keep the variance, norms are near the identity."""
    wave = np.sin(np.arange(math.prod(shape)) * 12.9898 + zlib.crc32(name.encode()) % 1000).reshape(shape)
    if name.endswith("running_var"):
        return (1 + 0.5 * wave).astype(np.float32)
    if len(shape) == 1:
        return (name.endswith("weight") + 0.2 * wave).astype(np.float32)
    return (wave * math.sqrt(4 / math.prod(shape[1:]))).astype(np.float32)


def published_file(name: str, path: Path, **fields: int) -> Path:
    """Such a file of the network with three classes."""
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(build(name, num_classes=3, **fields).init, jax.random.key(0), image)
    tensors = {}
    for place, leaf in traverse_util.flatten_dict(variables, sep="/").items():
        torch = torch_name(place, FAMILIES[name])
        tensors[torch] = waves(torch, (*leaf.shape[:-3:-1], *leaf.shape[:-2]))
    save_file(tensors, path / f"{name}.safetensors")
    return path / f"{name}.safetensors"


@pytest.mark.parametrize(
    "name", [name if name == "resnet18" else pytest.param(name, marks=pytest.mark.slow) for name in LOGITS]
)
def test_logits_are_those_of_torchvision(name: str, tmp_path: Path) -> None:
    variables = load_torch(published_file(name, tmp_path), name)
    model = cnnjax.build(name, num_classes=3)
    np.testing.assert_allclose(jax.jit(model.apply)(variables, IMAGE)[0], LOGITS[name], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_every_published_network_has_a_name_for_every_tensor() -> None:
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    for name, family in FAMILIES.items():
        fields = {"auxiliary": True} if name == "googlenet" else {}
        variables = jax.eval_shape(build(name, num_classes=3, **fields).init, jax.random.key(0), image)
        places = traverse_util.flatten_dict(variables, sep="/")
        names = [torch_name(place, family) for place in places]
        assert len(set(names)) == len(names)
        assert f"{family.classifier}.weight" in names


def test_a_file_that_does_not_fit_names_the_first_tensors(tmp_path: Path) -> None:
    path = published_file("resnet18", tmp_path, width=2)
    load_torch(path, "resnet18", width=2)
    tensors = load_file(path)
    del tensors["layer1.0.bn2.running_mean"], tensors["layer4.1.conv2.weight"]
    tensors["conv1.weight"] = np.zeros((2, 3, 5, 5), np.float32)
    tensors["layer5.0.conv1.weight"] = np.zeros((2, 2), np.float32)
    tensors["bn1.num_batches_tracked"] = np.zeros((), np.int64)
    save_file(tensors, path)
    with pytest.raises(RequestError) as caught:
        load_torch(path, "resnet18", width=2)
    message = str(caught.value)
    assert message.startswith(f"{path} does not fit resnet18: missing layer")
    assert "layer1.0.bn2.running_mean" in message and "layer4.1.conv2.weight" in message
    assert "misshapen conv1.weight (2, 3, 5, 5): it does not make (7, 7, 3, 2)" in message
    assert message.endswith("; and 1 more")
    assert "\n" not in message and "num_batches" not in message


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet20", "unknown network with published weights 'resnet20'; did you mean 'resnet50'?"),
        ("resnet18", "missing fc.weight"),
    ],
)
def test_another_network_or_file_is_refused(name: str, says: str, tmp_path: Path) -> None:
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "file.safetensors")
    with pytest.raises(RequestError) as caught:
        load_torch(tmp_path / "file.safetensors", name)
    assert says in str(caught.value) or name == "resnet20"


def test_a_flattened_tensor_of_another_size_is_named(tmp_path: Path) -> None:
    path = published_file("vgg11", tmp_path, width=1)
    tensors = load_file(path)
    tensors["classifier.0.weight"] = np.zeros((64, 401), np.float16)
    tensors["features.0.weight"] = tensors["features.0.weight"].astype(np.float16)
    save_file(tensors, path)
    with pytest.raises(RequestError, match=r"misshapen classifier.0.weight \(64, 401\): it does not make \(392, 64\)"):
        load_torch(path, "vgg11", width=1)


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    path = published_file("resnet18", tmp_path, width=2)
    save_file({name: tensor.astype(np.float16) for name, tensor in load_file(path).items()}, path)
    assert {leaf.dtype for leaf in jax.tree.leaves(load_torch(path, "resnet18", width=2))} == {jnp.dtype("float32")}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"nowhere.safetensors: .*; name a .safetensors file"):
        load_torch(tmp_path / "nowhere.safetensors", "resnet18")


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"\x80\x04\x95no safetensors file at all")
    with pytest.raises(RequestError, match=r"no safetensors file .* save a state dict with safetensors.torch"):
        load_torch(tmp_path / "weights.pth", "resnet18")
