"""GoogLeNet in both published forms, with and without its auxiliary heads."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import FilterRule, RequestError
from cnnjax.filters.plan import cover, flatten
from cnnjax.layers.auxiliary import AUXILIARY_LOGITS
from cnnjax.layers.sequence import Sequential
from cnnjax.models.cost import multiply_adds
from cnnjax.models.description import describe
from cnnjax.models.googlenet import googlenet
from cnnjax.models.network import Network, Stage
from tests.training_step import losses_around_a_step

IMAGE = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
SMALL = {"width": 8, "stem": "small"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "alone", "with_auxiliary", "billions"),
    [("torchvision", 6_624_904, 13_004_888, 1.498), ("paper", 6_998_552, 13_378_280, 1.583)],
)
def test_published_sizes(form: str, alone: int, with_auxiliary: int, billions: float) -> None:
    for auxiliary, expected in ((False, alone), (True, with_auxiliary)):
        model = googlenet(1000, form=form, auxiliary=auxiliary)
        variables = jax.eval_shape(model.init, jax.random.key(0), IMAGE)
        assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected
    assert round(multiply_adds(model.apply, variables, IMAGE) / 1e9, 3) == billions


@pytest.mark.parametrize("form", [pytest.param("torchvision", marks=pytest.mark.slow), "paper"])
def test_table(form: str) -> None:
    table = describe(googlenet(1000, form=form), (224, 224, 3))
    assert table.stage.tolist() == ["stem", "stage3", "stage4", "stage5", "head", "total"]
    expected = [(28, 28, 192), (14, 14, 480), (7, 7, 832), (7, 7, 1024), (1000,), (1000,)]
    assert table.output.tolist() == expected
    # 7 + 2 * 2 pooled, + 2 * 4 by the 3x3, + 2 * 4 pooled
    assert table.receptive_field.iloc[0] == (27, 27)
    # two modules of 3x3 or 5x5 at stride 8, and pooling
    assert table.receptive_field.iloc[1] == (27 + 2 * 8 * (4 if form == "paper" else 2) + 16,) * 2


@pytest.mark.parametrize(("size", "grid"), [(97, 3), pytest.param(151, 5, marks=pytest.mark.slow)])
def test_grids_are_rounded_up(size: int, grid: int) -> None:
    # 97, 49, 24, 12, 6, 3 and 151, 76, 38, 19, 9, 5; rounded down, 2 and 4 would be left
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(googlenet(10).init, jax.random.key(0), x)
    features = jax.eval_shape(lambda v, x: googlenet(10).apply(v, x, until="stage5"), variables, x)
    assert features.shape == (1, grid, grid, 1024)


def test_standardised_colours_become_pixels_from_minus_1_to_1() -> None:
    pixels = np.random.default_rng(0).random((2, 5, 4, 3)).astype(np.float32)
    standardised = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    first = googlenet(10, transform_input=True, **SMALL).stages[0].module.layers[0]
    assert first.name == "transform"
    found = first.module.apply({}, jnp.asarray(standardised, jnp.float32))
    np.testing.assert_allclose(found, 2 * pixels - 1, atol=1e-6)
    with pytest.raises(ValueError, match="images of 3 colours; given 1 channels"):
        first.module.apply({}, found[..., :1])


@pytest.mark.slow
def test_torchvision_form_has_tensorflows_epsilon_and_the_paper_no_norm() -> None:
    stem = googlenet(10).stages[0].module
    assert [layer.module.norm.epsilon for layer in stem.layers if layer.name != "pool3"] == [1e-3] * 3
    assert [layer.name for layer in googlenet(10, form="paper").stages[0].module.layers] == [
        "conv1",
        "response1",
        "conv2",
        "conv3",
        "response3",
        "pool3",
    ]
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    for form, norm, has_statistics in (
        ("paper", None, False),
        ("paper", "batch", True),
        ("torchvision", "none", False),
    ):
        model = googlenet(10, form=form, norm=norm, **SMALL)
        assert ("batch_stats" in jax.eval_shape(model.init, jax.random.key(0), x)) == has_statistics


@pytest.mark.parametrize("form", [pytest.param("torchvision", marks=pytest.mark.slow), "paper"])
def test_auxiliary_heads_leave_logits_in_training_alone(form: str) -> None:
    model = googlenet(3, form=form, auxiliary=True, **SMALL)
    x = jax.ShapeDtypeStruct((2, 32, 32, 1), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)

    def run(variables: Any, x: jax.Array, *, train: bool) -> Any:
        options = {"rngs": {"dropout": jax.random.key(0)}, "mutable": ["batch_stats", AUXILIARY_LOGITS]}
        return model.apply(variables, x, train=train, **options)

    logits, left = jax.eval_shape(lambda v, x: run(v, x, train=True), variables, x)
    assert logits.shape == (2, 3)
    auxiliary = left[AUXILIARY_LOGITS]["stage4"]
    assert set(auxiliary) == {"auxiliary1", "auxiliary2"}
    assert [leaf.shape for leaf in jax.tree.leaves(auxiliary)] == [(2, 3)] * 2
    _, left = jax.eval_shape(lambda v, x: run(v, x, train=False), variables, x)
    assert AUXILIARY_LOGITS not in left


def test_a_filter_plan_reaches_the_auxiliary_heads() -> None:
    x = jax.ShapeDtypeStruct((2, 32, 32, 1), np.float32)
    params = flatten(jax.eval_shape(googlenet(3, auxiliary=True, **SMALL).init, jax.random.key(0), x)["params"])
    heads = FilterRule(r"stage4/auxiliary\d/.*", state="frozen")
    rules = cover(params, (heads, FilterRule(r"(?!stage4/auxiliary).*")))
    frozen = sorted(path for path, rule in rules.items() if rule.state == "frozen")
    layers = ("conv/conv/kernel", "conv/norm/bias", "conv/norm/scale", "dense/dense/bias", "dense/dense/kernel")
    leaves = (*layers, "logits/bias", "logits/kernel")
    assert frozen == [f"stage4/auxiliary{i}/head/{leaf}" for i in (1, 2) for leaf in leaves]


@pytest.mark.slow
def test_width_scales_every_layer() -> None:
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    params = jax.eval_shape(googlenet(10, auxiliary=True, **SMALL).init, jax.random.key(0), x)["params"]
    assert params["stem"]["conv3"]["conv"]["kernel"].shape == (3, 3, 8, 24)
    assert params["stage4"]["inception4a"]["branch3"]["reduction"]["conv"]["kernel"].shape == (1, 1, 60, 2)
    assert params["stage4"]["auxiliary1"]["head"]["dense"]["dense"]["kernel"].shape == (4 * 4 * 16, 128)
    assert params["head"]["dense"]["kernel"].shape == (128, 10)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True])
def test_a_training_step_with_auxiliary_heads_lowers_the_loss(whole: bool) -> None:
    model = googlenet(3, auxiliary=True, dropout=0.0, **SMALL)
    if not whole:  # one of the nine modules, and on sequences: a step of all takes a minute to compile on a CPU
        stem, _, stage4, _, head = model.stages
        first = Sequential(stage4.module.layers[:2])
        assert [layer.name for layer in first.layers] == ["inception4a", "auxiliary1"]
        model = Network((stem, Stage("stage4", first), head))
    before, after = losses_around_a_step(model, (6, 8, 1), classes=3)
    assert after < before


@pytest.mark.slow
def test_one_dimension() -> None:
    model = googlenet(3, form="paper", width=8)
    x = np.zeros((1, 64, 1), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    assert jax.eval_shape(model.apply, variables, x).shape == (1, 3)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"form": "papr"}, "unknown form 'papr'; did you mean 'paper'?"),
        ({"stem": "tiny"}, "unknown stem 'tiny'; there are: imagenet, small"),
        (
            {"padding": "valid"},
            "padding 'valid' shrinks an inception module's branches; the others keep the grid",
        ),
    ],
)
def test_wrong_request(fields: dict[str, str], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        googlenet(10, **fields)
    assert str(caught.value) == says
