# SPDX-License-Identifier: Apache-2.0
"""Every refusal of every check: the type of the error, and a message that names the op, the rule and what came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bittern import ops

INT64 = torch.int64


def packed(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=INT64)


def conv(
    x: Tensor | None = None, w: Tensor | None = None, channels: int = 70, **changed: Any
) -> Callable[[Callable[..., Tensor]], Tensor]:
    """A valid convolution, but for what is changed."""
    geometry: dict[str, Any] = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1]}
    arguments = {
        "x": packed(1, 5, 5, 2) if x is None else x,
        "w": packed(4, 3, 3, 2) if w is None else w,
        "channels": channels,
        **geometry,
        **changed,
    }
    return lambda call: call(**arguments)


def pool(x: Tensor | None = None, **changed: Any) -> Callable[[Callable[..., Tensor]], Tensor]:
    """A valid pool of bits, but for what is changed."""
    arguments = {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0], **changed}
    return lambda call: call(packed(1, 4, 4, 2) if x is None else x, **arguments)


def of(*arguments: Any) -> Callable[[Callable[..., Tensor]], Tensor]:
    return lambda call: call(*arguments)


BAD: list[tuple[ops.Op, Callable[[Callable[..., Tensor]], Tensor], type[Exception], str]] = [
    (ops.sign, of(torch.zeros(3, dtype=INT64)), TypeError, "sign: x must be float32, .*int32; got int64; cast"),
    (ops.sign, of(torch.zeros(3, dtype=torch.bool)), TypeError, "sign: x must be .* got bool"),
    (ops.sign, of(torch.zeros(3, dtype=torch.complex64)), TypeError, "sign: x must be .* got complex64"),
    (ops.pack_signs, of(torch.zeros(3, dtype=torch.uint8)), TypeError, "pack_signs: x must be .* got uint8"),
    (ops.pack_signs, of(torch.tensor(1.0)), ValueError, r"pack_signs: x needs at least one element .* got \[\]"),
    (ops.pack_signs, of(torch.zeros(3, 0)), ValueError, r"pack_signs: x needs at least one element .* got \[3, 0\]"),
    (ops.pack_signs, of(torch.zeros(3), torch.zeros(4)), ValueError, r"threshold must be \[3\], .* got \[4\]"),
    (ops.pack_signs, of(torch.zeros(3), torch.zeros(1, 3)), ValueError, r"threshold must be \[3\], .* got \[1, 3\]"),
    (ops.pack_signs, of(torch.zeros(3), torch.zeros(3).double()), TypeError, "threshold must be float32; got float64"),
    (ops.pack_signs, of(torch.zeros(3).half(), torch.zeros(3).half()), TypeError, "threshold must be float32; got"),
    (ops.pack_signs, of(torch.zeros(3).double(), torch.zeros(3)), TypeError, "threshold must be float64; got float32"),
    (ops.pack_signs, of(torch.zeros(3).int(), torch.zeros(3)), TypeError, "threshold must be int32; got float32"),
    (ops.pack_levels, of(torch.zeros(3).double(), 2), TypeError, "pack_levels: x must be float32; got float64"),
    (ops.pack_levels, of(torch.tensor(1.0), 2), ValueError, r"pack_levels: x needs at least one element .* got \[\]"),
    (ops.pack_levels, of(torch.zeros(3), 1), ValueError, "pack_levels: planes must be 2 ... 8; got 1"),
    (ops.pack_levels, of(torch.zeros(3), 9), ValueError, "pack_levels: planes must be 2 ... 8; got 9"),
    (ops.unpack_signs, of(torch.zeros(1).int(), 3), TypeError, "unpack_signs: words must be int64; got int32"),
    (ops.unpack_signs, of(packed(1), 0), ValueError, "words must hold at least 1 bit; got 0"),
    (ops.unpack_signs, of(packed(1), -5), ValueError, "words must hold at least 1 bit; got -5"),
    (ops.unpack_signs, of(packed(1), 65), ValueError, r"must have 2 words .* for 65 bits; got shape \[1\]; make it"),
    (ops.unpack_signs, of(packed(2), 64), ValueError, r"must have 1 words .* for 64 bits; got shape \[2\]"),
    (ops.unpack_signs, of(torch.tensor(1), 1), ValueError, r"must have 1 words .* got shape \[\]"),
    (ops.unpack_signs, of(packed(1), 3, torch.int32), TypeError, "dtype must be a floating-point type; got .*int32"),
    (ops.binary_matmul, of(packed(2, 1), packed(3, 1), 0), ValueError, r"binary_matmul: k must lie in \[1, 2\^24\]"),
    (ops.binary_matmul, of(packed(2, 1), packed(3, 1), 2**24 + 1), ValueError, "k must lie in .* got 16777217"),
    (ops.binary_matmul, of(packed(2, 1).int(), packed(3, 1), 5), TypeError, "binary_matmul: a must be int64; got"),
    (ops.binary_matmul, of(packed(2, 1), packed(3, 1).double(), 5), TypeError, "b must be int64; got float64"),
    (ops.binary_matmul, of(packed(2, 2), packed(3, 1), 5), ValueError, r"a must have 1 words .* got shape \[2, 2\]"),
    (ops.binary_matmul, of(packed(2, 2), packed(3, 1), 65), ValueError, r"b must have 2 words .* got shape \[3, 1\]"),
    (ops.binary_matmul, of(packed(2, 1), packed(1), 5), ValueError, r"b must be \[n, words\]; got \[1\]"),
    (ops.binary_matmul, of(packed(2, 1), packed(1, 3, 1), 5), ValueError, r"b must be \[n, words\]; got \[1, 3, 1\]"),
    (
        ops.binary_matmul,
        of(packed(2, 1), packed(3, 1), 5, torch.zeros(4, 2)),
        ValueError,
        r"binary_matmul: epilogue must be \[4, 3\] \(rows offset, scale, alpha, beta\); got \[4, 2\]",
    ),
    (
        ops.binary_matmul,
        of(packed(2, 1), packed(3, 1), 5, torch.zeros(4, 3).double()),
        TypeError,
        "epilogue must be float32; got float64",
    ),
    (ops.pool_bits, pool(packed(1, 4, 4, 2).int()), TypeError, "pool_bits: x must be int64; got int32"),
    (ops.pool_bits, pool(packed(4, 4, 2)), ValueError, r"x must be \[batch, height, width, words\]; got \[4, 4, 2\]"),
    (ops.pool_bits, pool(packed(1, 4, 4, 0)), ValueError, r"x must be .* got \[1, 4, 4, 0\]; make it with"),
    (ops.pool_bits, pool(kernel=[2]), ValueError, r"kernel must be two sizes of at least 1; got \[2\]"),
    (ops.pool_bits, pool(stride=[0, 1]), ValueError, r"stride must be two sizes of at least 1; got \[0, 1\]"),
    (ops.pool_bits, pool(padding=[0, -1]), ValueError, r"padding must be two sizes of at least 0; got \[0, -1\]"),
    (
        ops.pool_bits,
        pool(padding=[2, 0]),
        ValueError,
        r"padding must be at most half the kernel \[2, 2\]; got \[2, 0\]",
    ),
    (ops.pool_bits, pool(kernel=[5, 2]), ValueError, r"a window of \[5, 2\] does not fit into \[4, 4\]"),
    (ops.pool_bits, pool(flip=packed(3)), ValueError, r"flip must be \[2\], the words of a pixel; got \[3\]"),
    (ops.pool_bits, pool(flip=packed(2).float()), TypeError, "flip must be int64; got float32"),
    (ops.concatenate_bits, of([packed(2, 1)], [3, 4]), ValueError, r"each of 1 parts; got \[3, 4\]"),
    (ops.concatenate_bits, of([packed(2, 1), packed(2, 1)], [3, 65]), ValueError, r"parts\[1\] must have 2 words"),
    (
        ops.concatenate_bits,
        of([packed(2, 1), packed(3, 1)], [3, 4]),
        ValueError,
        r"sizes \[2\] .* parts\[1\] has \[3\]",
    ),
    (ops.concatenate_bits, of([packed(2, 1).int()], [3]), TypeError, r"parts\[0\] must be int64; got int32"),
    (ops.binary_conv2d, conv(groups=0), ValueError, "groups must divide channels; got channels=70, groups=0"),
    (ops.binary_conv2d, conv(groups=3), ValueError, "groups must divide channels; got channels=70, groups=3"),
    (ops.binary_conv2d, conv(channels=0), ValueError, "groups must divide channels; got channels=0"),
    (ops.binary_conv2d, conv(channels=-64), ValueError, "groups must divide channels; got channels=-64"),
    (
        ops.binary_conv2d,
        conv(w=packed(3, 3, 3, 1), groups=2),
        ValueError,
        "groups must divide the output channels; got 3 and groups=2",
    ),
    (ops.binary_conv2d, conv(packed(1, 5, 5, 1)), ValueError, "binary_conv2d: x must have 2 words .* for 70 bits"),
    (ops.binary_conv2d, conv(w=packed(4, 3, 3, 1)), ValueError, "binary_conv2d: w must have 2 words .* for 70 bits"),
    (ops.binary_conv2d, conv(groups=2), ValueError, "binary_conv2d: w must have 1 words .* for 35 bits"),
    (ops.binary_conv2d, conv(packed(1, 5, 5, 2).float()), TypeError, "x must be int64; got float32"),
    (ops.binary_conv2d, conv(w=packed(4, 3, 3, 2).int()), TypeError, "w must be int64; got int32"),
    (ops.binary_conv2d, conv(packed(5, 5, 2)), ValueError, r"x must be \[batch, height, width, words\]"),
    (ops.binary_conv2d, conv(w=packed(4, 3, 2)), ValueError, r"and w \[out, kernel_h, kernel_w, words\]"),
    (ops.binary_conv2d, conv(w=packed(4, 0, 3, 2)), ValueError, r"must lie in \[1, 2\^24\]; got w \[4, 0, 3, 2\]"),
    (
        ops.binary_conv2d,
        conv(packed(1, 1, 1, 2**14), packed(1, 5, 5, 2**14), channels=2**20, padding=[2, 2]),
        ValueError,
        r"kernel taps times channels must lie in \[1, 2\^24\]",
    ),
    (ops.binary_conv2d, conv(stride=[0, 1]), ValueError, r"stride must be two integers of at least 1; got \[0, 1\]"),
    (ops.binary_conv2d, conv(stride=[1]), ValueError, r"stride must be two integers of at least 1; got \[1\]"),
    (ops.binary_conv2d, conv(padding=[1, -1]), ValueError, r"padding must be two integers of at least 0; got"),
    (ops.binary_conv2d, conv(padding=[1, 1, 1]), ValueError, "padding must be two integers"),
    (ops.binary_conv2d, conv(dilation=[1, 0]), ValueError, r"dilation must be two integers of at least 1; got"),
    (ops.binary_conv2d, conv(pad_value=2), ValueError, r"pad_value must be -1, 0 or \+1; got 2"),
    (ops.binary_conv2d, conv(pad_value=-2), ValueError, r"pad_value must be -1, 0 or \+1; got -2"),
    (ops.binary_conv2d, conv(epilogue=torch.zeros(4)), ValueError, r"binary_conv2d: epilogue must be \[4, 4\]"),
    (ops.binary_conv2d, conv(epilogue=torch.zeros(4, 4).half()), TypeError, "epilogue must be float32; got float16"),
    (
        ops.binary_conv2d,
        conv(packed(1, 2, 5, 2)),
        ValueError,
        r"a kernel of 3x3 \(dilation \[1, 1\]\) does not fit into an image of 2x5 with padding \[0, 0\]",
    ),
    (ops.binary_conv2d, conv(dilation=[1, 3]), ValueError, "does not fit into an image of 5x5"),
    (ops.binary_conv2d, conv(packed(1, 0, 5, 2), padding=[1, 1]), ValueError, "does not fit into an image of 0x5"),
]


def _label(value: object) -> str:
    return value.name if isinstance(value, ops.Op) else ""


@pytest.mark.parametrize(("op", "call", "error", "message"), BAD, ids=_label)
def test_refuses(
    op: ops.Op, call: Callable[[Callable[..., Tensor]], Tensor], error: type[Exception], message: str
) -> None:
    """By the op itself, by the reference, and by every native implementation, always the same way."""
    for way in (op, *(implementation.call for implementation in op.implementations())):
        with pytest.raises(error, match=message) as caught:
            call(way)
        assert str(caught.value).startswith(f"{op.name}: ")


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        (ops.pack_signs, (torch.zeros(3), torch.zeros(3, device="meta"))),
        (ops.binary_matmul, (packed(2, 1), packed(3, 1).to("meta"), 5)),
        (ops.binary_matmul, (packed(2, 1), packed(3, 1), 5, torch.zeros(4, 3, device="meta"))),
        (ops.binary_conv2d, (packed(1, 5, 5, 2), packed(4, 3, 3, 2).to("meta"), 70, [1, 1], [0, 0], [1, 1])),
    ],
    ids=_label,
)
def test_refuses_tensors_on_two_devices(op: ops.Op, arguments: tuple[Any, ...]) -> None:
    for implementation in op.implementations():
        with pytest.raises(ValueError, match=r"all tensors must be on one device; got .* on cpu, .* on meta") as caught:
            implementation.call(*arguments)
        assert str(caught.value).startswith(f"{op.name}: ")


def test_the_largest_reduction_is_accepted() -> None:
    """k = 2^24 is the last whose sums float32 holds exactly."""
    k = 2**24
    ones, zeros = torch.full((1, k // 64), -1), torch.zeros((1, k // 64), dtype=INT64)
    assert ops.binary_matmul(ones, ones, k).item() == k
    assert ops.binary_matmul(ones, zeros, k).item() == -k


def test_triton_outside_its_interpreter_refuses_cpu_tensors() -> None:
    pytest.importorskip("triton")
    with pytest.raises(RuntimeError, match="Triton kernels need CUDA tensors; got cpu; call the op itself"):
        ops.sign.triton(torch.ones(3))
