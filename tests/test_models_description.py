"""The table of a network against numbers worked by hand."""

import jax
import pytest

import cnnjax
from cnnjax.models.convnet import convnet
from cnnjax.models.description import describe
from cnnjax.models.lenet import lenet5
from cnnjax.models.logistic import logistic
from cnnjax.models.registry import build

COLUMNS = ["stage", "output", "parameters", "multiply_adds", "activation_bytes", "receptive_field", "stride", "offset"]


def test_lenet_row_by_row() -> None:
    table = describe(lenet5(10), (28, 28, 1))
    assert list(table.columns) == COLUMNS
    assert [tuple(row) for row in table.itertuples(index=False)] == [
        ("stage1", (14, 14, 6), 156, 28 * 28 * 25 * 6, 4 * 14 * 14 * 6, (6, 6), (2, 2), (-2, -2)),
        ("stage2", (5, 5, 16), 2_416, 10 * 10 * 25 * 6 * 16, 4 * 400, (16, 16), (4, 4), (-2, -2)),
        ("stage3", (120,), 48_120, 400 * 120, 4 * 120, None, None, None),
        ("stage4", (84,), 10_164, 120 * 84, 4 * 84, None, None, None),
        ("head", (10,), 850, 84 * 10, 4 * 10, None, None, None),
        ("total", (10,), 61_706, 416_520, 4 * (1176 + 400 + 120 + 84 + 10), None, None, None),
    ]


def test_one_dimension() -> None:
    table = describe(convnet(10, width=4, depth=2, kernel_size=3, padding="valid", norm="batch"), (40, 2))
    # 40 -> 38 -> 19 -> 17 -> 8 positions; a norm has a scale and a bias for each map
    assert [tuple(row) for row in table.itertuples(index=False)] == [
        ("stage1", (19, 4), 3 * 2 * 4 + 8, 38 * 3 * 2 * 4, 4 * 76, (4,), (2,), (0,)),
        ("stage2", (8, 8), 3 * 4 * 8 + 16, 17 * 3 * 4 * 8, 4 * 64, (10,), (4,), (0,)),
        ("head", (10,), 64 * 10 + 10, 640, 40, None, None, None),
        ("total", (10,), 32 + 112 + 650, 912 + 1632 + 640, 4 * (76 + 64 + 10), None, None, None),
    ]


def test_logistic_sees_everything_at_once() -> None:
    table = cnnjax.describe(logistic(3), (5, 5, 1))
    assert table.stage.tolist() == ["head", "total"]
    assert table.parameters.tolist() == [78, 78]
    assert table.receptive_field.tolist() == [None, None]


def test_multiply_adds_are_of_one_example_in_every_lowering(monkeypatch: pytest.MonkeyPatch) -> None:
    here = describe(lenet5(10), (28, 28, 1))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert describe(lenet5(10), (28, 28, 1)).equals(here)


def test_nothing_is_allocated() -> None:
    model = convnet(10, width=2**20, depth=2)
    table = describe(model, (32, 32, 3))
    assert table.parameters.iloc[1] == 25 * 2**20 * 2**21 + 2**21
    assert 4 * table.parameters.iloc[-1] > 2**47  # bytes: more than a process can address


def test_two_columns_and_a_recurrent_network() -> None:
    table = describe(build("alexnet", num_classes=10, form="2012"), (227, 227, 3))
    # 11; + 2 * 4 pooled; + 4 * 8; + 2 * 8 pooled; then 3x3 three times at 16
    assert table.receptive_field.tolist()[:5] == [(19,) * 2, (67,) * 2, (99,) * 2, (131,) * 2, (195,) * 2]
    assert table.stride.tolist()[:5] == [(8,) * 2, (16,) * 2, (16,) * 2, (16,) * 2, (32,) * 2]
    assert describe(build("gru", num_classes=10), (40, 1)).receptive_field.tolist() == [None] * 3


@pytest.mark.parametrize("connectivity", ["conv", "local"])
def test_unshared_weights_see_what_shared_ones_do(connectivity: str) -> None:
    model = build("convnet", num_classes=3, width=2, kernel_size=3, connectivity=connectivity)
    table = describe(model, (12, 12, 2))
    assert table.receptive_field.tolist()[:2] == [(4, 4), (10, 10)]
    assert table.multiply_adds.tolist()[:2] == [144 * 9 * 2 * 2, 36 * 9 * 2 * 4]


def test_circular_borders_see_as_far() -> None:
    tables = [
        describe(build("convnet", num_classes=3, padding=padding), (28, 28, 1)) for padding in ("same", "circular")
    ]
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_adaptive_pooling_that_does_not_divide_sees_everything_it_might(name: str) -> None:
    table = describe(build(name, num_classes=3, width=2), (100, 100, 3))
    assert table.output.iloc[-1] == (3,)
