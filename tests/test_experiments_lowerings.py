"""The measurement of lowerings: that it sees a network's own layers, and that its alternatives compute the same."""

import jax
import numpy as np

from cnnjax.layers.pooling import POOLS
from experiments.lowerings import Layer, layers_of, milliseconds, pooling, table_row


def test_layers_of_a_network_are_its_own_convolutions_and_poolings() -> None:
    layers = layers_of("lenet5", 2)
    assert [layer.operands for layer in layers] == [
        ((2, 28, 28, 1), (5, 5, 1, 6)),
        ((2, 14, 14, 6), (5, 5, 6, 16)),
        ((2, 28, 28, 6),),
        ((2, 10, 10, 16),),
    ]
    assert [layer.what for layer in layers[2:]] == [
        "max_pool of (2, 28, 28, 6) by 2, strides 2, padding ((0, 0), (0, 0))",
        "max_pool of (2, 10, 10, 16) by 2, strides 2, padding ((0, 0), (0, 0))",
    ]


def test_grouped_layers_have_shifts_where_they_are_depthwise() -> None:
    layers = layers_of("grouped", 2)
    assert [(len(layer.forms), layer.chosen) for layer in layers] == [
        *[(3, "rows")] * 4,
        *[(4, "shifts")] * 2,
        (2, "shifts"),
    ]
    for layer in layers:
        outputs = {jax.eval_shape(form, *map(np.zeros, layer.operands)).shape for form in layer.forms.values()}
        assert len(outputs) == 1


def test_alternatives_compute_the_same() -> None:
    x = np.random.default_rng(0).normal(size=(2, 7, 5, 3)).astype(np.float32)
    pools = [pooling(POOLS[name](3, 2, 1), x.shape) for name in ("max", "average")]
    results = jax.jit(lambda x: [[form(x) for form in layer.forms.values()] for layer in pools])(x)
    for views, by_xla in results:
        assert views.shape == (2, 4, 3, 3)
        np.testing.assert_allclose(views, by_xla, rtol=1e-5, atol=1e-6)


def test_every_form_is_timed_and_the_choice_marked() -> None:
    layer = Layer("a pooling", ((1, 4, 2),), pooling(POOLS["max"](2), (1, 4, 2)).forms, "views")
    times = milliseconds(layer, rounds=1, repeats=2)
    assert list(times) == ["views", "reduce_window"]
    assert min(times.values()) > 0
    shown = table_row("lenet5", layer.what, {"views": 1.5, "reduce_window": 1.0}, "views")
    assert shown == "| lenet5 | a pooling | **views 1.50**, reduce_window 1.00 | 1.50 |"
