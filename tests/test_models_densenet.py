"""Densely connected networks: the published sizes, and widths in proportion to the growth rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import RequestError
from cnnjax.models.densenet import DENSENETS, Layout, densenet
from cnnjax.models.description import describe
from tests.training_step import losses_around_a_step

TINY = Layout((2, 1), growth=2, stem_features=4, stem="small")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("densenet_40_12", 1_019_722), pytest.param("densenet_bc_100_12", 769_162, marks=pytest.mark.slow)],
)
def test_published_sizes_for_cifar(name: str, expected: int) -> None:
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    params = jax.eval_shape(DENSENETS[name](10).init, jax.random.key(0), x)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected
    layers = sum(leaf.ndim > 1 for leaf in jax.tree.leaves(params))
    assert f"_{layers}_" in name


@pytest.mark.slow
def test_table_of_densenet121() -> None:
    table = describe(DENSENETS["densenet121"](1000), (224, 224, 3))
    assert table.stage.tolist() == ["stem", "stage1", "stage2", "stage3", "stage4", "head", "total"]
    grids = [(56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512), (7, 7, 1024), (1000,), (1000,)]
    assert table.output.tolist() == grids
    assert table.parameters.iloc[-1] == 7_978_856
    assert round(table.multiply_adds.iloc[-1] / 1e9, 3) == 2.834
    # 6 windows of 3 at stride 4, and pooling by 2
    assert table.receptive_field.iloc[1] == (11 + 6 * 2 * 4 + 4,) * 2


@pytest.mark.parametrize(("width", "stem", "features"), [(None, 4, [4, 4, 6]), (4, 8, [8, 8, 12]), (1, 2, [2, 2, 3])])
def test_widths_in_proportion_to_the_growth_rate(width: int | None, stem: int, features: list[int]) -> None:
    table = describe(densenet(TINY, 3, width=width), (8, 8, 1))
    assert [shape[-1] for shape in table.output[:3]] == features
    assert features[0] == stem


def test_paths_are_regular() -> None:
    params = jax.eval_shape(densenet(TINY, 3).init, jax.random.key(0), jnp.ones((1, 8, 8, 1)))["params"]
    found = {jax.tree_util.keystr(p[:-1], simple=True, separator="/") for p, _ in jax.tree.leaves_with_path(params)}
    convs = [f"stage{s}/dense/layer{i}/conv{c}" for s, i in ((1, 1), (1, 2), (2, 1)) for c in (1, 2)]
    convs.append("stage1/transition/conv")
    expected = {f"{layer}/{part}" for layer in convs for part in ("conv", "norm")}
    assert found == expected | {"stem", "head/before/norm", "head/dense"}


def test_pools_are_max_and_average_unless_told_otherwise() -> None:
    x = np.zeros((1, 32, 32, 1), np.float32)
    x[0, 16, 16] = 1

    def traced(**fields: str) -> str:
        model = densenet(TINY, 3, stem="imagenet", norm="none", **fields)
        variables = jax.eval_shape(model.init, jax.random.key(0), x)
        return str(jax.make_jaxpr(model.apply)(variables, x))

    by_default, average, greatest = traced(), traced(pool="average"), traced(pool="max")
    assert by_default not in (average, greatest)
    assert average != greatest


@pytest.mark.slow
@pytest.mark.parametrize("reduced", [True, False])
def test_a_training_step_lowers_the_loss(reduced: bool) -> None:
    layout = Layout((2, 1), growth=2, stem_features=4, stem="imagenet", reduced=reduced)
    before, after = losses_around_a_step(densenet(layout, 3), (6, 16, 16, 1), classes=3)
    assert after < before


@pytest.mark.parametrize("spatial", [(16,), (8, 8, 8)])
def test_one_and_three_dimensions(spatial: tuple[int, ...]) -> None:
    logits, _ = jax.eval_shape(densenet(TINY, 3).init_with_output, jax.random.key(0), jnp.ones((2, *spatial, 1)))
    assert logits.shape == (2, 3)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"stem": "image"}, "unknown stem 'image'; did you mean 'imagenet'?"),
        (
            {"padding": "valid"},
            "padding 'valid' shrinks a densely connected layer; the others keep the grid",
        ),
    ],
)
def test_wrong_request(fields: dict[str, str], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        DENSENETS["densenet121"](10, **fields)
    assert str(caught.value) == says
