"""Weights in torchvision's naming: logits that torchvision itself gave, and files that do not fit."""

import math
import re
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
from cnnjax.models.network import run_stages
from cnnjax.models.registry import build
from cnnjax.models.torch_weights import FAMILIES, _arrange, _published_name, torch_name

CLASSES = 3
# Of torchvision 0.29 with the weights of `drawn` on `IMAGE`; "published" is GoogLeNet with `transform_input`.
LOGITS = {
    "alexnet": [-0.5130814, 0.4952568, 0.6256537],
    "vgg11": [-0.3464281, -0.5209064, 0.1073288],
    "vgg11_bn": [-1.108674, 0.4601238, -0.1648627],
    "vgg16_bn": [-3.070919, 0.5535724, 0.509063],
    "resnet18": [2.28216, 0.4669073, -0.2478554],
    "resnet34": [2.702557, -0.0955397, -0.3731785],
    "resnet50": [0.03108309, -0.9288176, -0.1275219],
    "densenet121": [-0.08020277, 0.3055525, -0.5423953],
    "densenet161": [0.1321048, 0.5057949, -0.4709204],
    "vgg13": [-0.3432412, -0.1663649, -0.5920101],
    "vgg16": [-0.8240693, -0.5774592, 0.1427082],
    "vgg19": [-0.06445193, 0.3526568, 0.1187047],
    "vgg13_bn": [-1.524864, 0.1714913, -0.5741205],
    "vgg19_bn": [-0.6619702, -0.7807821, -0.4398586],
    "resnet101": [0.007788658, -0.8881124, -0.4348626],
    "resnet152": [0.4613562, -1.288926, -1.129969],
    "densenet169": [-0.4905819, 0.2714458, -0.1179979],
    "densenet201": [0.4123725, -0.3420133, -0.7706707],
    "googlenet": [1.405376, 1.782981, -1.033888],
    "googlenet published": [0.8776059, 0.8539997, -0.4152175],
}
IMAGE = np.sin(np.arange(64 * 96 * 3) * 0.37).reshape(1, 64, 96, 3).astype(np.float32)


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor's values from its name and PyTorch's shape: kernels keep the variance, norms are near the identity, and
    those at the end of a residual branch near three tenths of it, or the sums over many blocks would grow."""
    draw = 2 * np.random.default_rng(zlib.crc32(name.encode())).random(shape) - 1
    if re.fullmatch(r"layer\d\.\d+\.bn[23]\.weight", name):
        return (0.3 + 0.06 * draw).astype(np.float32)
    if name.endswith("running_var"):
        return (1 + 0.5 * draw).astype(np.float32)
    if len(shape) == 1:
        return (name.endswith("weight") + 0.2 * draw).astype(np.float32)
    scale = 0.2 if shape[0] == CLASSES else 1  # logits of about 1, of which 1e-4 is what float32 can give
    return (draw * scale * math.sqrt(6 / math.prod(shape[1:]))).astype(np.float32)


def published_file(name: str, path: Path, **fields: int) -> Path:
    """Such a file of the network with three classes."""
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(build(name, num_classes=3, **fields).init, jax.random.key(0), image)
    tensors = {}
    for place, leaf in traverse_util.flatten_dict(variables, sep="/").items():
        torch = torch_name(place, FAMILIES[name])
        tensors[torch] = drawn(torch, (*leaf.shape[:-3:-1], *leaf.shape[:-2]))
    save_file(tensors, path / f"{name}.safetensors")
    return path / f"{name}.safetensors"


@pytest.mark.parametrize(
    "name", [name if name == "resnet18" else pytest.param(name, marks=pytest.mark.slow) for name in LOGITS]
)
def test_logits_are_those_of_torchvision(name: str, tmp_path: Path) -> None:
    network, _, form = name.partition(" ")
    fields = {"transform_input": True} if form == "published" else {}
    variables = load_torch(published_file(network, tmp_path), network, **fields)
    model = cnnjax.build(network, num_classes=CLASSES, **fields)
    np.testing.assert_allclose(jax.jit(model.apply)(variables, IMAGE)[0], LOGITS[name], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("published", "name"),
    [
        ("features.denseblock1.denselayer12.norm.2.running_var", "features.denseblock1.denselayer12.norm2.running_var"),
        ("features.denseblock4.denselayer1.conv.1.weight", "features.denseblock4.denselayer1.conv1.weight"),
        ("features.denseblock4.denselayer1.conv1.weight", "features.denseblock4.denselayer1.conv1.weight"),
        ("layer1.0.conv1.weight", "layer1.0.conv1.weight"),
    ],
)
def test_older_names_of_published_files(published: str, name: str) -> None:
    assert _published_name(published) == name


def test_a_flattened_grid_is_read_with_channels_last() -> None:
    rng = np.random.default_rng(0)
    x, tensor = rng.integers(-3, 4, (2, 2, 3, 4)), rng.integers(-3, 4, (5, 4 * 2 * 3))
    expected = x.transpose(0, 3, 1, 2).reshape(2, -1) @ tensor.T
    np.testing.assert_array_equal(x.reshape(2, -1) @ _arrange(tensor, 6), expected)


def pooled_as_torch_flattens(x: np.ndarray, size: int) -> np.ndarray:
    """The means of size x size equal blocks of [N, H, W, C], channels first: [N, C * size * size]."""
    n, h, w, c = x.shape
    return x.reshape(n, size, h // size, size, w // size, c).mean((2, 4)).transpose(0, 3, 1, 2).reshape(n, -1)


@pytest.mark.parametrize(("name", "width", "size", "dense"), [("alexnet", 2, 6, 1), ("vgg11", 1, 7, 0)])
def test_the_first_dense_layer_reads_a_grid_that_is_not_square(
    name: str, width: int, size: int, dense: int, tmp_path: Path
) -> None:
    path = published_file(name, tmp_path, width=width)
    variables, tensors = load_torch(path, name, width=width), load_file(path)
    x = np.random.default_rng(0).normal(size=(2, 2 * size, 3 * size, 8)).astype(np.float32)
    found = run_stages(build(name, num_classes=3, width=width), variables, x, after="stage5", until="stage6")
    weight, bias = (tensors[f"classifier.{dense}.{part}"] for part in ("weight", "bias"))
    expected = np.maximum(pooled_as_torch_flattens(x, size) @ weight.T + bias, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_an_auxiliary_head_of_googlenet_reads_a_grid_that_is_not_square(tmp_path: Path) -> None:
    fields: dict[str, int] = {"width": 8, "auxiliary": True}
    path = published_file("googlenet", tmp_path, **fields)
    variables, tensors = load_torch(path, "googlenet", **fields), load_file(path)
    stage4 = build("googlenet", num_classes=3, **fields).stages[2].module
    for name, channels in (("auxiliary1", 64), ("auxiliary2", 66)):
        x = np.random.default_rng(0).normal(size=(2, 8, 12, channels)).astype(np.float32)
        (head,) = (layer.module.head for layer in stage4.layers if layer.name == name)
        own = {collection: tree["stage4"][name]["head"] for collection, tree in variables.items()}
        found = head.apply(own, x)
        of = {key.split(".", 1)[1]: tensors[key] for key in tensors if key.startswith(f"aux{name[-1]}.")}
        h = x @ of["conv.conv.weight"][:, :, 0, 0].T
        h = h.reshape(2, 4, 2, 4, 3, -1).mean((2, 4)) - of["conv.bn.running_mean"]
        h = h / np.sqrt(of["conv.bn.running_var"] + 1e-3) * of["conv.bn.weight"] + of["conv.bn.bias"]
        h = np.maximum(h, 0).transpose(0, 3, 1, 2).reshape(2, -1)
        h = np.maximum(h @ of["fc1.weight"].T + of["fc1.bias"], 0)
        np.testing.assert_allclose(found, h @ of["fc2.weight"].T + of["fc2.bias"], rtol=1e-4, atol=1e-4)


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
    for name in ("layer1.0.bn2.running_mean", "layer2.0.bn2.running_mean", "layer4.1.conv2.weight"):
        del tensors[name]
    tensors["conv1.weight"] = np.zeros((2, 3, 5, 5), np.float32)
    tensors["layer5.0.conv1.weight"] = np.zeros((2, 2), np.float32)
    tensors["bn1.num_batches_tracked"] = np.zeros((), np.int64)
    save_file(tensors, path)
    with pytest.raises(RequestError) as caught:
        load_torch(path, "resnet18", width=2)
    message = str(caught.value)
    assert message.startswith(f"{path} does not fit resnet18: missing layer")
    assert message.count("running_mean") + message.count("layer4.1.conv2.weight") == 2
    misshapen = "misshapen conv1.weight (2, 3, 5, 5): it does not make (7, 7, 3, 2)"
    assert message.endswith(f" and 1 more; {misshapen}; left over layer5.0.conv1.weight")
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
