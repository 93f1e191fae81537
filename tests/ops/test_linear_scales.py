# SPDX-License-Identifier: Apache-2.0
"""Scales of 4-bit blocks in bytes give the bits of decoding them first; rows that share a block stay apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from _linear_cases import DTYPES, Linear
from _tolerance import assert_exact
from bittern import ops
from bittern.nn import Linear4bit, LinearMXFP4
from bittern.ops import codebooks
from bittern.ops.e8m0 import powers
from bittern.ops.linear_4bit.scales import decoded_absmax
from bittern.ops.nested import NestedAbsmax, dequantize_absmax, quantize_absmax

# torch itself scripts decompositions when forward mode is first used
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

SHAPES = ((5, 192, 64), (70, 1029, 32), (33, 100, 64), (9, 1100, 128), (1, 31, 32))
"""Rows that begin with a block, at half a byte, at some of the leads, within long blocks; less than a block."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scales", ["nested", "powers"])
def test_decoded_on_the_way_to_the_same_bits(dtype: torch.dtype, scales: str) -> None:
    for rows, columns, block in SHAPES:
        for m in (1, 2, 6, 49):
            linear = Linear(m, rows, columns, block, dtype, scales=scales)
            x, packed, absmax, code, _, _, bias, *nested = linear.forward()
            grad = linear.backward()[0]
            plain = decoded_absmax(absmax, *(nested or (None, None)))
            for isa in ops.available_isas():
                given = ops.linear_4bit.native(isa, x, packed, absmax, code, block, rows, bias, *nested)
                assert_exact(given, ops.linear_4bit.native(isa, x, packed, plain, code, block, rows, bias))
                back = ops.linear_4bit_backward.native(isa, grad, packed, absmax, code, block, columns, *nested)
                assert_exact(back, ops.linear_4bit_backward.native(isa, grad, packed, plain, code, block, columns))


def test_what_bytes_mean() -> None:
    """Through products with 1: nested as dequantize_absmax says, also below 0 and beyond one scale; every exponent."""
    absmax = torch.rand(300, generator=torch.Generator().manual_seed(0)) ** 8
    nested = quantize_absmax(absmax)
    nested = NestedAbsmax(nested.codes, nested.scales, nested.offset / 4)  # so that some fall below 0
    expected = dequantize_absmax(nested)
    assert (expected == 0).any()
    exponents = torch.arange(256).to(torch.uint8)
    two = powers(exponents)
    assert two[[0, 1, 127, 254]].tolist() == [2.0**-127, 2.0**-126, 1.0, 2.0**127]
    assert two[255].isnan()
    ones, code = torch.full((300 * 16,), 0xFF, dtype=torch.uint8), codebooks.nf4()
    for isa in ops.available_isas():
        x = torch.zeros(1, 32).index_fill_(1, torch.tensor([3]), 1.0)
        y = ops.linear_4bit.native(isa, x, ones, nested.codes, code, 32, 300, None, nested.scales, nested.offset)
        assert_exact(y[0], expected)
        y = ops.linear_4bit.native(isa, x, ones[: 256 * 16], exponents, code, 32, 256)
        assert y[0, 255].isnan()
        assert_exact(y[0, :255], two[:255])


@pytest.mark.parametrize("m", [1, 7])
def test_a_row_is_not_touched_by_numbers_of_the_next(m: int) -> None:
    """Both rows have a part in one block; the first row's numbers there are beyond float16, the second's are 0."""
    codes = torch.cat([torch.full((33,), 15), torch.full((33,), 7)])
    packed = (codes[0::2] << 4 | codes[1::2]).to(torch.uint8)
    absmax, code = torch.tensor([1e6, 1.0]), codebooks.nf4()
    x = torch.ones(m, 33, dtype=torch.float16)
    for isa in ops.available_isas():
        y = ops.linear_4bit.native(isa, x, packed, absmax, code, 64, 2)
        assert y[:, 0].isinf().all()
        assert not y[:, 1].any()
        y = ops.linear_4bit.native(isa, x, packed.flip(0), absmax, code, 64, 2)  # 1 and 0 change places with bytes
        assert not y.isnan().any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_scale_of_any_nan_is_nan(dtype: torch.dtype) -> None:
    absmax = torch.tensor([0x7FFFFFFF, -1, 0x7F800001, 0x3F800000], dtype=torch.int32).view(torch.float32)
    packed = torch.full((4 * 32,), 0xEE, dtype=torch.uint8)
    for isa in ops.available_isas():
        y = ops.linear_4bit.native(isa, torch.ones(1, 64, dtype=dtype), packed, absmax, codebooks.nf4(), 64, 4)
        assert y.isnan().tolist() == [[True, True, True, False]]


def _layers() -> list[tuple[str, torch.nn.Module, Tensor]]:
    torch.manual_seed(0)
    linear = torch.nn.Linear(96, 40).requires_grad_(False)
    nested, powers_of_two = Linear4bit.from_float(linear, block_size=32, nested=True), LinearMXFP4.from_float(linear)
    return [("nested", nested, nested.dequantize()), ("powers", powers_of_two, powers_of_two.dequantize())]


def test_layers_train_through_bytes() -> None:
    """Values, gradients, gradients of gradients and vmap equal those of the decoded weight."""
    for _, layer, weight in _layers():
        x = torch.randn(3, 96, dtype=torch.float32, requires_grad=True)
        bias: Any = layer.bias
        y = layer(x)
        torch.testing.assert_close(y, torch.nn.functional.linear(x, weight, bias), rtol=1e-4, atol=1e-4)
        v = torch.randn_like(y, requires_grad=True)
        (grad,) = torch.autograd.grad(y, x, v, create_graph=True)
        torch.testing.assert_close(grad, v @ weight, rtol=1e-4, atol=1e-4)
        (second,) = torch.autograd.grad(grad.sum(), v)
        torch.testing.assert_close(second, (torch.ones_like(x) @ weight.t()), rtol=1e-4, atol=1e-4)
        mapped = torch.func.vmap(layer)(x.detach())
        torch.testing.assert_close(mapped, y.detach(), rtol=1e-4, atol=1e-4)
        _, tangent = torch.func.jvp(layer, (x.detach(),), (torch.ones_like(x),))
        torch.testing.assert_close(tangent, torch.ones_like(x) @ weight.t(), rtol=1e-4, atol=1e-4)


N4 = Linear(3, 4, 64, 64, torch.float32, scales="nested").forward()


@pytest.mark.parametrize(
    ("place", "value", "error", "message"),
    [
        (7, None, ValueError, "absmax_scales and absmax_offset belong together; got no absmax_scales"),
        (8, None, ValueError, "got no absmax_offset; pass both or none"),
        (2, N4[2].float(), TypeError, "absmax must be uint8; got float32"),
        (2, N4[2][:3], ValueError, r"absmax must be \[4\], one per block of 64 .*got \[3\]"),
        (7, torch.ones(2), ValueError, r"absmax_scales must be \[1\], one per 256 of 4 absmax, .*got \[2\] and \[\]"),
        (8, torch.ones(1), ValueError, r"absmax_offset one number \[\]; got \[1\] and \[1\]; see quantize_absmax"),
        (7, N4[7].double(), TypeError, "absmax_scales must be float32; got float64"),
    ],
)
def test_scales_that_do_not_fit(place: int, value: Any, error: type[Exception], message: str) -> None:
    arguments = [*N4[:place], value, *N4[place + 1 :]]
    with pytest.raises(error, match=message):
        ops.linear_4bit(*arguments)


def test_a_nested_scale_has_no_derivative() -> None:
    arguments = [*N4[:7], N4[7].clone().requires_grad_(), N4[8]]
    with pytest.raises(NotImplementedError, match="the weight is frozen; got a derivative of absmax_scales"):
        ops.linear_4bit(*arguments).sum().backward()
