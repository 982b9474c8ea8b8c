"""Cross-correlation in all its lowerings against the definition, written as loops."""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import assume, given
from hypothesis import strategies as st

from cnnjax.ops.convolution import choose_lowering, convolve, correlate, correlate_transposed
from cnnjax.ops.geometry import Padding

LOWERINGS = ("xla", "patches", "rows")
"""Of every kernel; depthwise ones have `shifts` too."""


class Case(NamedTuple):
    """Operands of small whole numbers, whose sums are exact in float32, and how the window slides."""

    x: np.ndarray
    kernel: np.ndarray
    strides: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]


def whole_numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    dimensions = draw(st.integers(1, 3))

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(least, most), min_size=dimensions, max_size=dimensions)))

    window, strides, dilation, room = each(1, 3), each(1, 3), each(1, 2), each(0, 3)
    extents = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    pairs = list(zip(each(0, 2), each(0, 2), strict=True))
    padding = draw(st.sampled_from(["valid", "same", 1, pairs]))
    spatial = [extent + more for extent, more in zip(extents, room, strict=True)]
    batch, channels, features = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    seed = draw(st.integers(0, 999))
    x = whole_numbers(seed, batch, *spatial, channels)
    return Case(x, whole_numbers(seed + 1, *window, channels, features), strides, padding, dilation)


def pads_of(case: Case) -> list[tuple[int, int]]:
    """Same: ceil(size / stride) positions, the odd element of padding after."""
    spatial, window = case.x.shape[1:-1], case.kernel.shape[:-2]
    if case.padding == "same":
        needed = [
            max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, k, s, d in zip(spatial, window, case.strides, case.dilation, strict=True)
        ]
        return [(total // 2, math.ceil(total / 2)) for total in needed]
    if case.padding == "valid":
        return [(0, 0)] * len(spatial)
    return [(1, 1)] * len(spatial) if case.padding == 1 else list(case.padding)  # type: ignore[arg-type]


def correlate_by_loops(case: Case) -> np.ndarray:
    """a[n, i, f] = sum over m, c of x[n, s i + d m, c] kernel[m, c, f]."""
    x = np.pad(case.x, [(0, 0), *pads_of(case), (0, 0)])
    window = case.kernel.shape[:-2]
    positions = [
        len(range(0, size - d * (k - 1), s))
        for size, k, s, d in zip(x.shape[1:-1], window, case.strides, case.dilation, strict=True)
    ]
    result = np.zeros((len(x), *positions, case.kernel.shape[-1]), np.float32)
    for i in itertools.product(*map(range, positions)):
        for m in itertools.product(*map(range, window)):
            at = tuple(s * p + d * q for s, p, d, q in zip(case.strides, i, case.dilation, m, strict=True))
            result[(slice(None), *i)] += x[(slice(None), *at)] @ case.kernel[m]
    return result


def correlate_by_xla(case: Case, x: jax.Array, kernel: jax.Array, groups: int = 1) -> jax.Array:
    """XLA's own convolution, with its own gradients, called without the project's code."""
    spatial = "XYZ"[: len(case.strides)]
    layout = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        case.strides,
        pads_of(case),
        rhs_dilation=case.dilation,
        dimension_numbers=layout,
        feature_group_count=groups,
    )


@given(cases())
def test_every_lowering_is_the_definition_and_has_the_gradients_of_xla(case: Case) -> None:
    options = {"strides": case.strides, "padding": case.padding, "dilation": case.dilation}
    expected = correlate_by_loops(case)
    weights = whole_numbers(5, *expected.shape)

    @jax.jit
    def values_and_gradients(x: jax.Array, kernel: jax.Array) -> list[tuple[jax.Array, tuple[jax.Array, ...]]]:
        functions = [functools.partial(correlate, lowering=lowering, **options) for lowering in LOWERINGS]
        pulled = (jax.vjp(f, x, kernel) for f in (functools.partial(correlate_by_xla, case), *functions))
        return [(value, back(weights)) for value, back in pulled]

    (_, (expected_x, expected_kernel)), *found = values_and_gradients(case.x, case.kernel)
    for value, (of_x, of_kernel) in found:
        np.testing.assert_allclose(value, expected, atol=1e-4)
        np.testing.assert_allclose(of_x, expected_x, atol=1e-4)
        np.testing.assert_allclose(of_kernel, expected_kernel, atol=1e-4)


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("mode", ["valid", "same"])
def test_one_channel_is_the_correlation_of_signal_processing(lowering: str, mode: str) -> None:
    image, kernel = whole_numbers(1, 7, 6), whole_numbers(2, 3, 5)
    found = correlate(image[None, :, :, None], kernel[:, :, None, None], padding=mode, lowering=lowering)
    expected = scipy.signal.correlate(image, kernel, mode=mode)
    np.testing.assert_allclose(found[0, :, :, 0], expected, atol=1e-4)


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_the_kernel_is_not_flipped(lowering: str) -> None:
    impulse = jnp.zeros((1, 5, 1)).at[0, 2, 0].set(1.0)
    kernel = jnp.array([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    found = correlate(impulse, kernel, lowering=lowering)
    np.testing.assert_array_equal(found.ravel(), [3.0, 2.0, 1.0])


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_numbers_serve_every_dimension(lowering: str) -> None:
    x, kernel = whole_numbers(3, 2, 9, 8, 2), whole_numbers(4, 2, 3, 2, 3)
    case = Case(x, kernel, (2, 2), [(1, 1), (1, 1)], (2, 2))
    found = correlate(x, kernel, strides=2, padding=1, dilation=2, lowering=lowering)
    np.testing.assert_allclose(found, correlate_by_loops(case), atol=1e-4)


@pytest.mark.parametrize("channels", [1, 64])
@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"])
def test_whatever_lowering_a_backend_chooses(channels: int, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, kernel = whole_numbers(3, 1, 6, channels), whole_numbers(4, 3, channels, 2)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert choose_lowering(kernel.shape, 1) in (LOWERINGS if backend == "cpu" else ("xla",))
    expected = correlate_by_loops(Case(x, kernel, (1,), "valid", (1,)))
    np.testing.assert_allclose(correlate(x, kernel), expected, atol=1e-4)


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize(
    ("x", "kernel", "options", "says"),
    [
        ((1, 5, 2), (3, 1, 4), {}, "2 channels, the kernel 1"),
        ((1, 5, 5, 1), (3, 1, 4), {}, "as many dimensions"),
        ((1, 5), (3, 1, 4), {}, "as many dimensions"),
        ((4, 5), (5, 3), {}, "as many dimensions"),
        ((1, 5, 1), (3, 1, 4), {"strides": 0}, "strides"),
        ((1, 5, 1), (3, 1, 4), {"dilation": (1, 1)}, "dilation"),
        ((1, 5, 1), (3, 1, 4), {"padding": "whole"}, "valid, same, full"),
        ((1, 5, 1), (3, 1, 4), {"padding": [(1, 1), (1, 1)]}, "1 pairs"),
        ((1, 3, 1), (5, 1, 4), {}, "does not fit"),
        ((1, 4, 1), (3, 1, 4), {"dilation": 2}, "does not fit"),
    ],
)
def test_wrong_shapes_are_refused(
    x: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, object], says: str, lowering: str
) -> None:
    with pytest.raises(ValueError, match=says):
        correlate(jnp.ones(x), jnp.ones(kernel), lowering=lowering, **options)


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("spatial", [(9,), (7, 6), (5, 4, 6)])
def test_convolution_is_that_of_signal_processing(mode: str, spatial: tuple[int, ...]) -> None:
    x, kernel = whole_numbers(1, *spatial), whole_numbers(2, *[3] * len(spatial))
    found = convolve(x[None, ..., None], kernel[..., None, None], padding=mode)
    np.testing.assert_allclose(found[0, ..., 0], scipy.signal.convolve(x, kernel, mode=mode), atol=1e-3)


@given(cases(), st.integers(2, 3), st.sampled_from([*LOWERINGS, None]))
def test_groups_are_correlations_side_by_side(case: Case, groups: int, lowering: str | None) -> None:
    own = [case._replace(x=case.x + 1 - group, kernel=case.kernel - group) for group in range(groups)]
    x, kernel = (np.concatenate([getattr(part, name) for part in own], axis=-1) for name in ("x", "kernel"))
    expected = np.concatenate([correlate_by_loops(part) for part in own], axis=-1)
    options = {"strides": case.strides, "padding": case.padding, "dilation": case.dilation, "groups": groups}
    found, back = jax.vjp(lambda x, k: correlate(x, k, lowering=lowering, **options), x, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    weights = whole_numbers(5, *expected.shape)
    of_x, of_kernel = back(weights)
    product = float((expected * weights).sum())  # the map is linear in either operand
    np.testing.assert_allclose([np.vdot(x, of_x), np.vdot(kernel, of_kernel)], product, rtol=1e-4, atol=1e-2)


def test_depthwise_has_a_group_for_each_channel() -> None:
    x, kernel = whole_numbers(1, 2, 7, 12), whole_numbers(2, 3, 1, 12)
    expected = [[np.correlate(x[n, :, c], kernel[:, 0, c]) for c in range(12)] for n in range(2)]
    for lowering in (None, "shifts", "xla"):
        found = correlate(x, kernel, groups=12, lowering=lowering)
        np.testing.assert_allclose(found, np.swapaxes(expected, 1, 2), atol=1e-4)


@pytest.mark.slow
@given(cases(), st.integers(1, 3))
def test_shifts_are_the_depthwise_convolution_of_xla_with_its_gradients(case: Case, each: int) -> None:
    """`each` features of each channel, in the order of the channels."""
    channels = case.x.shape[-1]
    kernel = whole_numbers(7, *case.kernel.shape[:-2], 1, channels * each)
    options = {"strides": case.strides, "padding": case.padding, "dilation": case.dilation, "groups": channels}
    expected, expected_back = jax.vjp(
        functools.partial(correlate_by_xla, case, groups=channels), case.x, jnp.asarray(kernel)
    )
    found, back = jax.vjp(functools.partial(correlate, lowering="shifts", **options), case.x, jnp.asarray(kernel))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    weights = whole_numbers(5, *expected.shape)
    for gradient, reference in zip(back(weights), expected_back(weights), strict=True):
        np.testing.assert_allclose(gradient, reference, atol=1e-4)


def test_shifts_sum_half_precision_exactly() -> None:
    x, kernel = jnp.full((1, 600, 1), 1.0, jnp.bfloat16), jnp.ones((100, 1, 1), jnp.bfloat16).at[0].set(256)
    found = correlate(x, kernel, lowering="shifts")  # in bfloat16 256 + 1 is 256
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found.astype(jnp.float32), np.float32(jnp.bfloat16(256 + 99)))


def test_shifts_are_for_depthwise_kernels_and_chosen_for_those_of_few_elements() -> None:
    with pytest.raises(ValueError, match="as many groups as channels, which are 4; given 2"):
        correlate(jnp.ones((1, 5, 4)), jnp.ones((3, 2, 4)), groups=2, lowering="shifts")
    chosen = [choose_lowering(kernel, 1, 8) for kernel in ((3, 3, 1, 8), (3, 3, 1, 16), (3, 3, 2, 16), (16, 16, 1, 8))]
    assert chosen == ["shifts", "shifts", "rows", "patches"]


@pytest.mark.parametrize("border", ["reflect", "circular"])
@pytest.mark.parametrize("lowering", LOWERINGS)
def test_borders_are_what_numpy_pads(border: str, lowering: str) -> None:
    x, kernel = whole_numbers(1, 2, 6, 5, 2), whole_numbers(2, 3, 3, 2, 4)
    mode = {"reflect": "reflect", "circular": "wrap"}[border]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode)  # type: ignore[call-overload]
    expected = correlate_by_loops(Case(padded, kernel, (1, 1), "valid", (1, 1)))
    found = correlate(x, kernel, padding="same", border=border, lowering=lowering)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_causal_sees_nothing_that_comes_later() -> None:
    x, kernel = whole_numbers(1, 1, 8, 5, 2), whole_numbers(2, 3, 3, 2, 4)
    found = correlate(x, kernel, padding="causal", dilation=(2, 1))
    padded = np.pad(x, ((0, 0), (4, 0), (1, 1), (0, 0)))
    expected = correlate_by_loops(Case(padded, kernel, (1, 1), "valid", (2, 1)))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    changed = correlate(
        np.where(np.arange(8)[None, :, None, None] > 3, 9.0, x), kernel, padding="causal", dilation=(2, 1)
    )
    np.testing.assert_array_equal(changed[:, :4], found[:, :4])


@given(cases())
def test_transposed_is_the_adjoint_on_the_finer_grid(case: Case) -> None:
    pads = pads_of(case)
    options = {"strides": case.strides, "padding": pads, "dilation": case.dilation}
    forward = correlate_by_loops(case)
    left_over = [
        (size + sum(pad) - d * (k - 1) - 1) % s
        for size, pad, d, k, s in zip(
            case.x.shape[1:-1], pads, case.dilation, case.kernel.shape, case.strides, strict=False
        )
    ]
    weights = whole_numbers(5, *forward.shape)
    found = correlate_transposed(weights, case.kernel, output_padding=left_over, **options)
    assert found.shape == case.x.shape
    np.testing.assert_allclose(np.vdot(case.x, found), np.vdot(forward, weights), atol=1e-2)


def test_transposed_doubles_a_grid() -> None:
    x, kernel = whole_numbers(1, 1, 3, 1), np.array([1, 2, 3, 4], np.float32).reshape(4, 1, 1)
    found = correlate_transposed(x, kernel, strides=2, padding="same")
    spread = np.zeros(8, np.float32)
    for position, value in enumerate(x.ravel()):
        spread[2 * position : 2 * position + 4] += value * kernel.ravel()
    np.testing.assert_allclose(found.ravel(), spread[1:7], atol=1e-5)


def test_left_over_elements_are_refused_where_exactness_is_asked_for() -> None:
    x, kernel = jnp.ones((1, 8, 1)), jnp.ones((3, 1, 1))
    assert correlate(x, kernel, strides=2).shape == (1, 3, 1)
    with pytest.raises(ValueError, match=r"\(8 - 3 \+ 0 \+ 0\) / 2 \+ 1 = 3.5 positions are no whole number"):
        correlate(x, kernel, strides=2, exact=True)
    assert correlate(x[:, 1:], kernel, strides=2, exact=True).shape == (1, 3, 1)


def test_groups_must_divide() -> None:
    with pytest.raises(ValueError, match="2 groups must divide 3 channels and 4 features"):
        correlate(jnp.ones((1, 8, 3)), jnp.ones((3, 1, 4)), groups=2)


@given(cases())
def test_convolution_is_correlation_with_a_flipped_kernel(case: Case) -> None:
    axes = tuple(range(case.kernel.ndim - 2))
    flipped = case._replace(kernel=np.ascontiguousarray(np.flip(case.kernel, axes)))
    expected = correlate_by_loops(flipped)
    weights = whole_numbers(5, *expected.shape)
    options = {"strides": case.strides, "padding": case.padding, "dilation": case.dilation}

    @jax.jit
    def pulled(x: jax.Array, kernel: jax.Array) -> list[tuple[jax.Array, tuple[jax.Array, jax.Array]]]:
        results = []
        for function in (functools.partial(convolve, **options), functools.partial(correlate_by_xla, case)):
            value, back = jax.vjp(function, x, kernel)
            results.append((value, back(weights)))
        return results

    value, (of_x, of_kernel) = pulled(case.x, case.kernel)[0]
    _, (expected_x, expected_kernel) = pulled(case.x, flipped.kernel)[1]
    np.testing.assert_allclose(value, expected, atol=1e-4)
    np.testing.assert_allclose(of_x, expected_x, atol=1e-4)
    np.testing.assert_allclose(np.flip(of_kernel, axes), expected_kernel, atol=1e-4)


@pytest.mark.slow
@given(cases(), st.integers(1, 2))
def test_transposed_spreads_every_position_by_the_kernel(case: Case, groups: int) -> None:
    pads = pads_of(case)
    positions = correlate_by_loops(case).shape[1:-1]
    features = case.kernel.shape[-1]
    x = whole_numbers(7, 2, *positions, features * groups)
    kernel = np.concatenate([case.kernel - group for group in range(groups)], axis=-1)
    options = {"strides": case.strides, "padding": pads, "dilation": case.dilation, "groups": groups}
    channels = kernel.shape[-2]
    spread = [
        s * (p - 1) + d * (k - 1) + 1
        for s, p, d, k in zip(case.strides, positions, case.dilation, kernel.shape, strict=False)
    ]
    assume(all(size > sum(pad) for size, pad in zip(spread, pads, strict=True)))  # or padding leaves nothing
    found, back = jax.vjp(lambda x, k: correlate_transposed(x, k, **options), x, kernel)
    expected = np.zeros((2, *spread, channels * groups), np.float32)
    for position in itertools.product(*map(range, positions)):
        for offset in itertools.product(*map(range, kernel.shape[:-2])):
            at = tuple(s * p + d * o for s, p, d, o in zip(case.strides, position, case.dilation, offset, strict=True))
            for group in range(groups):
                own = slice(group * features, (group + 1) * features)
                met = x[(slice(None), *position, own)] @ kernel[(*offset, slice(None), own)].T
                expected[(slice(None), *at, slice(group * channels, (group + 1) * channels))] += met
    cut = tuple(slice(before, size - after) for size, (before, after) in zip(spread, pads, strict=True))
    expected = expected[(slice(None), *cut)]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    # The map is linear in either operand: its gradient meets every change of one as the output's own change.
    weights = whole_numbers(5, *expected.shape)
    of_x, of_kernel = back(weights)
    for change in (whole_numbers(3, *x.shape), whole_numbers(11, *x.shape)):
        moved = correlate_transposed(change, kernel, **options)
        np.testing.assert_allclose(np.vdot(change, of_x), np.vdot(moved, weights), rtol=1e-4, atol=1e-2)
    for change in (whole_numbers(3, *kernel.shape), whole_numbers(11, *kernel.shape)):
        moved = correlate_transposed(x, change, **options)
        np.testing.assert_allclose(np.vdot(change, of_kernel), np.vdot(moved, weights), rtol=1e-4, atol=1e-2)


def test_output_padding_is_less_than_the_stride() -> None:
    with pytest.raises(ValueError, match="less than the strides"):
        correlate_transposed(jnp.ones((1, 3, 1)), jnp.ones((2, 1, 1)), strides=2, output_padding=2)


def test_a_constant_border() -> None:
    x, kernel = whole_numbers(1, 2, 6, 5, 2), whole_numbers(2, 3, 3, 2, 4)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1.5)
    expected = correlate_by_loops(Case(padded, kernel, (1, 1), "valid", (1, 1)))
    np.testing.assert_allclose(correlate(x, kernel, padding="same", fill=-1.5), expected, atol=1e-4)
