# SPDX-License-Identifier: Apache-2.0
"""The references against numbers worked by hand and against torch on unpacked tensors."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from _cases import (
    DTYPES,
    FLOATS,
    SIZES,
    Case,
    Conv,
    concatenate_bits_cases,
    conv_cases,
    generator,
    pool_bits_cases,
    special_values,
)
from _together import run_all
from _tolerance import assert_elementwise, assert_exact
from bittern import ops


def signs(label: str, *shape: int) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator(label)).double() * 2 - 1


# ---- sign


@pytest.mark.parametrize("dtype", FLOATS)
def test_sign_of_special_values(dtype: torch.dtype) -> None:
    inf, nan, tiny = float("inf"), float("nan"), torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    x = torch.tensor([0.0, -0.0, tiny, -tiny, 3.0, -3.0, inf, -inf, nan, -nan], dtype=torch.float64).to(dtype)
    expected = torch.tensor([1, 1, 1, -1, 1, -1, 1, -1, -1, -1], dtype=dtype)
    assert_exact(ops.sign.reference(x), expected)


def test_sign_of_integers() -> None:
    x = torch.tensor([0, 1, -1, 2**31 - 1, -(2**31)], dtype=torch.int32)
    assert_exact(ops.sign.reference(x), torch.tensor([1, 1, -1, 1, -1], dtype=torch.int32))


def test_signs_lie_in_memory_as_their_numbers() -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert ops.sign(x).stride() == x.stride() == ops.sign.reference(x).stride()
    assert ops.sign(x[:, :, ::2]).is_contiguous(memory_format=torch.channels_last)


def test_subnormals_of_the_cases_are_subnormal() -> None:
    for dtype in FLOATS:
        x = special_values(dtype).double()
        assert ((x.abs() < torch.finfo(dtype).smallest_normal) & (x != 0)).sum() == 2


# ---- pack_levels


def test_a_level_is_the_nearest_and_of_two_the_even_one() -> None:
    x = torch.tensor([0.0, -0.0, -1.0, 0.5 / 3, 0.51 / 3, 1 / 3, 0.5, 2.5 / 3, 1.0, 9.0, math.inf, -math.inf, math.nan])
    low, high = (ops.unpack_signs.reference(plane, len(x)) for plane in ops.pack_levels.reference(x, 2))
    levels = (low > 0).int() + 2 * (high > 0).int()
    assert levels.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 0, 0]


# ---- pack_signs and unpack_signs


def test_pack_places_bits_from_the_lowest_up() -> None:
    x = -torch.ones(66)
    x[[0, 3, 63, 65]] = 1.0
    assert ops.pack_signs.reference(x).tolist() == [1 + 8 - 2**63, 2]


def test_pack_of_special_values_matches_sign() -> None:
    for dtype in DTYPES:
        x = special_values(dtype)
        bits = ops.unpack_signs.reference(ops.pack_signs.reference(x), len(x))
        assert torch.equal(bits.double(), ops.sign.reference(x).double())


def test_pack_compares_with_the_threshold_of_its_column() -> None:
    x = torch.tensor([[1.0, 1.0, 1.0, float("nan"), 1.0, float("inf")]])
    threshold = torch.tensor([1.0, 1.5, float("-inf"), float("-inf"), float("nan"), float("inf")])
    assert ops.pack_signs.reference(x, threshold).tolist() == [[0b100101]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pack_widens_before_it_compares(dtype: torch.dtype) -> None:
    """1 is not at least 1 + 2^-23, which neither 16-bit format can hold."""
    x = torch.ones(1, dtype=dtype)
    assert ops.pack_signs.reference(x, torch.tensor([1.0 + 2.0**-23])).item() == 0
    assert ops.pack_signs.reference(x, torch.tensor([1.0 - 2.0**-24])).item() == 1


def test_pack_compares_float64_and_int32_in_their_own_precision() -> None:
    one = torch.ones(1, dtype=torch.float64)
    assert ops.pack_signs.reference(one, one + 1e-15).item() == 0
    big = torch.tensor([2**24], dtype=torch.int32)
    assert ops.pack_signs.reference(big, big + 1).item() == 0


@pytest.mark.parametrize("n", SIZES)
def test_surplus_bits_are_zero_and_unpack_inverts(n: int) -> None:
    x = signs(f"invert {n}", 3, n).float()
    packed = ops.pack_signs.reference(x)
    assert packed.shape == (3, -(-n // 64))
    assert_exact(ops.unpack_signs.reference(packed, n), x)
    surplus = -n % 64
    if surplus:
        assert (((packed[:, -1] >> (64 - surplus)) & (2**surplus - 1)) == 0).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_unpack_gives_the_asked_dtype(dtype: torch.dtype) -> None:
    packed = torch.tensor([-(2**63) + 1])
    expected = torch.tensor([1] + [-1] * 62 + [1], dtype=dtype)
    assert_exact(ops.unpack_signs.reference(packed, 64, dtype), expected)


# ---- binary_matmul and binary_conv2d


def test_matmul_by_hand() -> None:
    a = torch.tensor([[1.0, 1.0, -1.0], [-1.0, -1.0, -1.0]])
    b = torch.tensor([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0]])
    packed = ops.pack_signs.reference(a), ops.pack_signs.reference(b)
    assert ops.binary_matmul.reference(*packed, 3).tolist() == [[-1, 1], [-1, -3]]
    rows = torch.tensor([[0.5, 0.0], [2.0, 1.0], [3.0, 1.0], [1.0, -1.0]])
    assert ops.binary_matmul.reference(*packed, 3, rows).tolist() == [[-2.0, 0.0], [-2.0, -4.0]]


@pytest.mark.parametrize("k", SIZES)
def test_matmul_is_the_product_of_signs(k: int) -> None:
    a, b = signs(f"left {k}", 2, 3, k), signs(f"right {k}", 5, k)
    acc = ops.binary_matmul.reference(ops.pack_signs.reference(a), ops.pack_signs.reference(b), k)
    assert_exact(acc, (a @ b.T).int())
    assert ((acc - k) % 2 == 0).all()
    assert acc.abs().max() <= k


@pytest.mark.parametrize(("pad_value", "expected"), [(0, [4, 6, 4]), (1, [9, 9, 9]), (-1, [-1, 3, -1])])
def test_conv_by_hand(pad_value: int, expected: list[int]) -> None:
    """A 3x3 kernel of +1 over a 3x3 image of +1 counts the taps inside: 4 at a corner, 6 at an edge, 9 within."""
    x, w = ops.pack_signs.reference(torch.ones(1, 3, 3, 1)), ops.pack_signs.reference(torch.ones(1, 3, 3, 1))
    acc = ops.binary_conv2d.reference(x, w, 1, [1, 1], [1, 1], [1, 1], 1, pad_value)
    assert acc[0, 0, :, 0].tolist() == expected
    assert acc[0, 1, 1, 0] == 9


def _torch_takes(case: Case) -> bool:
    """torch's convolution refuses an empty batch with groups, no output channels, and an image without pixels."""
    x, w, *_ = case.make()
    return 0 not in (*x.shape, *w.shape)


def test_conv_is_the_convolution_of_signs() -> None:
    run_all({str(case): partial(_check_conv, case) for case in conv_cases() if _torch_takes(case)})


def _check_conv(case: Case) -> None:
    x, w, channels, stride, padding, dilation, groups, pad_value, rows = case.make()
    image = ops.unpack_signs.reference(x, channels, torch.float64).permute(0, 3, 1, 2)
    kernel = ops.unpack_signs.reference(w, channels // groups, torch.float64).permute(0, 3, 1, 2)
    if pad_value:
        (pad_h, pad_w), padding = padding, 0
        image = F.pad(image, (pad_w, pad_w, pad_h, pad_h), value=float(pad_value))
    expected = F.conv2d(image, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    acc = ops.binary_conv2d.reference(*case.make()[:-1])
    assert_exact(acc, expected.permute(0, 2, 3, 1).int())
    if rows is not None:
        offset, scale, alpha, beta = rows.double()
        product = (acc.double() + offset) * scale * alpha
        largest = torch.maximum(product.abs(), beta.abs())
        assert_elementwise(ops.binary_conv2d.reference(*case.make()), product + beta, 3, largest)


# ---- pools and concatenations of bits


@pytest.mark.parametrize("case", list(pool_bits_cases()), ids=str)
def test_a_pool_of_bits_is_the_pool_of_signs(case: Case) -> None:
    x, kernel, stride, padding, ceil, flip = case.make()
    channels = 64 * x.shape[-1]
    image = ops.unpack_signs.reference(x, channels).permute(0, 3, 1, 2)
    falls = 1.0 if flip is None else -ops.unpack_signs.reference(flip, channels).view(1, -1, 1, 1)
    pooled = F.max_pool2d(image * falls, kernel, stride, padding, ceil_mode=ceil)
    expected = (pooled * falls).permute(0, 2, 3, 1)
    assert_exact(ops.unpack_signs.reference(ops.pool_bits.reference(*case.make()), channels), expected)


@pytest.mark.parametrize("case", list(concatenate_bits_cases()), ids=str)
def test_bits_side_by_side_are_the_signs_side_by_side(case: Case) -> None:
    parts, channels = case.make()
    signs = [ops.unpack_signs.reference(part, bits) for part, bits in zip(parts, channels, strict=True)]
    assert_exact(ops.concatenate_bits.reference(parts, channels), ops.pack_signs.reference(torch.cat(signs, -1)))


def test_conv_with_a_1x1_kernel_is_matmul() -> None:
    x, w, channels, *_ = Conv(65, 9, kernel=(1, 1), padding=(0, 0)).make()
    acc = ops.binary_conv2d.reference(x, w, channels, [1, 1], [0, 0], [1, 1])
    assert_exact(acc, ops.binary_matmul.reference(x, w.view(9, 2), channels))


def test_conv_in_one_dimension_is_torch_conv1d() -> None:
    x, w = signs("1-d image", 2, 9, 70), signs("1-d kernel", 4, 3, 70)
    packed = ops.pack_signs.reference(x).unsqueeze(1), ops.pack_signs.reference(w).unsqueeze(1)
    acc = ops.binary_conv2d.reference(*packed, 70, [1, 2], [0, 2], [1, 2])
    expected = F.conv1d(x.transpose(1, 2), w.transpose(1, 2), stride=2, padding=2, dilation=2)
    assert_exact(acc.squeeze(1), expected.transpose(1, 2).int())


def test_groups_see_only_their_channels() -> None:
    x = torch.ones(1, 1, 1, 6)
    x[..., 3:] = -1
    w = torch.ones(4, 1, 1, 3)
    packed = ops.pack_signs.reference(x), ops.pack_signs.reference(w)
    acc = ops.binary_conv2d.reference(*packed, 6, [1, 1], [0, 0], [1, 1], 2)
    assert acc.flatten().tolist() == [3, 3, -3, -3]
