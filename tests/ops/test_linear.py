# SPDX-License-Identifier: Apache-2.0
"""Linear layers from 4-bit and 8-bit weights: numbers worked by hand, gradients, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from _linear_cases import Linear, check_sum
from _tolerance import assert_elementwise, assert_exact
from bittern import ops
from bittern.ops import codebooks
from bittern.ops.nested import dequantize_absmax, quantize_absmax


def test_4bit_product_by_hand() -> None:
    """Codes 0 1 / 15 7 of NF4 are -1, -0.6962 / 1, 0; the scales of the two rows are 2 and 3."""
    code = codebooks.nf4()
    packed = torch.zeros(32, dtype=torch.uint8)
    packed[:] = 0x77  # the code of 0
    packed[0], packed[16] = 0x01, 0xF7
    absmax = torch.tensor([2.0, 3.0])
    x = torch.zeros(1, 32)
    x[0, 0], x[0, 1] = 10.0, 100.0
    expected = torch.tensor([[-20.0 + 200.0 * float(code[1]), 30.0]])
    for isa in ops.available_isas():
        y = ops.linear_4bit.native(isa, x, packed, absmax, code, 32, 2)
        assert_elementwise(y, expected.double(), 4, 200.0)
        grad = ops.linear_4bit_backward.native(isa, torch.tensor([[1.0, 10.0]]), packed, absmax, code, 32, 32)
        assert_elementwise(grad[0, :2], torch.tensor([-2.0 + 30.0, 2.0 * float(code[1])]).double(), 4, 30.0)
        assert not grad[0, 2:].any()


def test_int8_product_by_hand() -> None:
    """Row 1, -2, 0.5 has codes 63.5 -> 64 (even), -127, 31.75 -> 32; the step is 2 / 127."""
    x = torch.tensor([[1.0, -2.0, 0.5]])
    weight = torch.tensor([[127, 1, 0], [0, 0, -3]], dtype=torch.int8)
    scale = torch.tensor([127.0, 254.0])
    step = torch.tensor(2.0) * torch.tensor(1 / 127.0)
    first = torch.tensor(float(64 * 127 - 127)) * step * (torch.tensor(127.0) * torch.tensor(1 / 127.0))
    second = torch.tensor(float(32 * -3)) * step * (torch.tensor(254.0) * torch.tensor(1 / 127.0))
    for isa in ops.available_isas():
        assert_exact(ops.linear_8bit.native(isa, x, weight, scale), torch.stack([first, second]).view(1, 2))


def test_outliers_are_multiplied_in_float() -> None:
    """Column 0 holds an outlier: without it the other numbers keep all their codes."""
    x = torch.tensor([[1000.0, 0.01, -0.02], [0.5, 0.03, 0.0]])
    weight = torch.tensor([[1, 100, -50]], dtype=torch.int8)
    scale = torch.tensor([127.0])
    y = ops.linear_8bit(x, weight, scale, None, 6.0)
    exact = x.double() @ weight.double().t()
    steps = torch.tensor([[0.02], [0.03]]).double() / 127
    assert ((y - exact).abs() <= 0.5 * steps * weight.double().abs().sum() + 1e-3).all()
    assert abs(float(y[1, 0]) - 3.5) < 0.02
    rough = ops.linear_8bit(x, weight, scale)
    assert abs(float(rough[0, 0]) - 1000.0) < 10
    assert float(rough[1, 0]) != float(y[1, 0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_nan_and_the_others_are_not(bad: float) -> None:
    x = torch.ones(3, 70)
    x[1, 33] = bad
    weight, scale = torch.ones(5, 70, dtype=torch.int8), torch.ones(5)
    for call in (ops.linear_8bit.reference, *(i.call for i in ops.linear_8bit.implementations())):
        y = call(x, weight, scale)
        assert y[1].isnan().all()
        assert not y[[0, 2]].isnan().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_4bit_gradients(dtype: torch.dtype) -> None:
    x, packed, absmax, code, block, rows, bias = Linear(6, 40, 192, 64, dtype).forward()
    x, bias = x.requires_grad_(), bias.requires_grad_()
    grad = torch.randn(6, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    ops.linear_4bit(x, packed, absmax, code, block, rows, bias).backward(grad)
    check_sum(x.grad, (grad, packed, absmax, code, block, 192), backward=True)
    assert torch.equal(bias.grad, grad.sum(0))


def test_int8_gradients() -> None:
    x, weight, scale, bias, _ = Linear(6, 1040, 70, 64, torch.float32).int8(0.0)
    x, bias = x.requires_grad_(), bias.requires_grad_()
    grad = torch.randn(6, 1040, generator=torch.Generator().manual_seed(0))
    ops.linear_8bit(x, weight, scale, bias).backward(grad)
    exact = grad.double() @ (weight.double() * scale.double()[:, None] / 127)
    torch.testing.assert_close(x.grad.double(), exact, rtol=1e-4, atol=1e-4 * float(exact.abs().max()))
    assert torch.equal(bias.grad, grad.sum(0))


def test_leading_dimensions_and_strides() -> None:
    x, *rest = Linear(12, 9, 128, 64, torch.float32, bias=False).forward()
    flat = ops.linear_4bit(x, *rest)
    assert torch.equal(ops.linear_4bit(x.view(2, 3, 2, 128), *rest), flat.view(2, 3, 2, 9))
    strided = torch.empty(12, 256)[:, ::2].copy_(x)
    assert torch.equal(ops.linear_4bit(strided, *rest), flat)
    assert torch.equal(ops.linear_4bit(x[0], *rest), ops.linear_4bit(x[:1], *rest)[0])


def test_compiles_whole() -> None:
    x, *rest = Linear(2, 9, 128, 64, torch.float32).forward()
    compiled = torch.compile(lambda x: ops.linear_4bit(x, *rest) * 2, fullgraph=True, backend="aot_eager")
    x = x.requires_grad_()
    y = compiled(x)
    y.sum().backward()
    assert torch.equal(y, ops.linear_4bit(x, *rest) * 2)
    assert x.grad is not None


def test_nested_absmax_is_close_and_never_negative() -> None:
    absmax = torch.rand(1000, generator=torch.Generator().manual_seed(1)) * 3
    nested = quantize_absmax(absmax)
    assert nested.codes.dtype == torch.uint8
    assert nested.scales.shape == (4,)
    back = dequantize_absmax(nested)
    assert (back >= 0).all()
    assert float((back - absmax).abs().max()) < 0.03
    assert dequantize_absmax(quantize_absmax(torch.empty(0))).shape == (0,)


X4 = Linear(3, 4, 64, 64, torch.float32).forward()
X8 = Linear(3, 4, 64, 64, torch.float32).int8(0.0)
G4 = Linear(3, 4, 64, 64, torch.float32).backward()


def changed(arguments: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*arguments[:place], value, *arguments[place + 1 :])


BAD: list[tuple[Callable[..., Tensor], tuple[Any, ...], type[Exception], str]] = [
    (ops.linear_4bit, changed(X4, 0, X4[0].double()), TypeError, "linear_4bit: x must be float32.*got float64; cast"),
    (ops.linear_4bit, changed(X4, 0, torch.tensor(1.0)), ValueError, r"x must be \[..., in_features\]; got a scalar"),
    (ops.linear_4bit, changed(X4, 0, torch.ones(3, 63)), ValueError, r"packed must hold 126 bytes .*got 128"),
    (ops.linear_4bit, changed(X4, 1, X4[1].int()), TypeError, "packed must be uint8; got int32"),
    (ops.linear_4bit, changed(X4, 2, X4[2][:3]), ValueError, r"absmax must be \[4\], one per block of 64 .*got \[3\]"),
    (ops.linear_4bit, changed(X4, 3, X4[3][:8]), ValueError, r"code must be one row of 16 entries; got shape \[8\]"),
    (ops.linear_4bit, changed(X4, 4, 48), ValueError, "block_size must be a power of two from 32 to 4096; got 48"),
    (ops.linear_4bit, changed(X4, 5, -4), ValueError, "features must not be negative; got -4 out"),
    (
        ops.linear_4bit,
        changed(X4, 6, torch.ones(5)),
        ValueError,
        r"bias must be torch.float32 \[4\]; got .*\[5\]; cast",
    ),
    (
        ops.linear_4bit,
        changed(X4, 6, torch.ones(4).half()),
        ValueError,
        "bias must be torch.float32 .*got torch.float16",
    ),
    (ops.linear_4bit_backward, changed(G4, 0, G4[0].long()), TypeError, "linear_4bit_backward: grad must be .*int64"),
    (ops.linear_4bit_backward, changed(G4, 0, torch.tensor(1.0)), ValueError, "grad must be .*got a scalar"),
    (ops.linear_8bit, changed(X8, 0, X8[0].double()), TypeError, "linear_8bit: x must be float32.*got float64"),
    (ops.linear_8bit, changed(X8, 0, torch.ones(3, 63)), ValueError, r"x \[3, 63\], weight \[4, 64\]"),
    (ops.linear_8bit, changed(X8, 1, X8[1].float()), TypeError, "weight must be int8; got float32"),
    (ops.linear_8bit, changed(X8, 2, torch.ones(3)), ValueError, r"scale must be \[4\], one absmax per row; got \[3\]"),
    (ops.linear_8bit, changed(X8, 2, torch.ones(4).double()), TypeError, "scale must be float32; got float64"),
    (ops.linear_8bit, changed(X8, 3, torch.ones(3)), ValueError, r"bias must be torch.float32 \[4\]; got .*\[3\]"),
    (ops.linear_8bit, changed(X8, 4, -1.0), ValueError, "threshold must be 0 .off. or positive; got -1.0"),
    (ops.linear_8bit, changed(X8, 4, float("nan")), ValueError, "threshold must be 0 .off. or positive; got nan"),
]


@pytest.mark.parametrize(("call", "arguments", "error", "message"), BAD, ids=lambda value: "")
def test_bad_arguments(
    call: Callable[..., Tensor], arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(*arguments)


def test_more_columns_than_sums_can_hold() -> None:
    columns = (2**31 - 1) // 127**2
    x, weight = torch.full((1, columns), 1.0), torch.full((1, columns), 127, dtype=torch.int8)
    for isa in ops.available_isas():
        y = ops.linear_8bit.native(isa, x, weight, torch.ones(1))
        assert abs(float(y) - columns) < 1e-3 * columns
    with pytest.raises(ValueError, match=f"at most {columns} columns fit int32 sums; got {columns + 1}"):
        ops.linear_8bit(torch.ones(1, columns + 1), torch.ones(1, columns + 1, dtype=torch.int8), torch.ones(1))
