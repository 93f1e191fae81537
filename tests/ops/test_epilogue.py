# SPDX-License-Identifier: Apache-2.0
"""The roundings of the epilogue: y = fma(fl(fl(float(acc) + offset) * scale), alpha, beta)."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from _agreement import marks
from _epilogue_cases import conv_arguments, exact_multiply_add, matmul_arguments, nearest_float32, traps
from _tolerance import assert_exact
from bittern import ops
from bittern.ops._epilogue import apply_epilogue, fused_multiply_add

MATMULS = pytest.mark.parametrize(
    "implementation",
    [pytest.param(found, marks=marks(found), id=found.name) for found in ops.binary_matmul.implementations()],
)
INF, NAN = float("inf"), float("nan")


def random_bits(seed: int, n: int = 300) -> tuple[Tensor, ...]:
    """Finite float32 of every exponent, subnormals too."""
    draw = torch.Generator().manual_seed(seed)
    bits = torch.randint(-(2**31), 2**31, (3, 2 * n), generator=draw).to(torch.int32)
    numbers = bits.view(torch.float32)
    return tuple(numbers[:, numbers.isfinite().all(0)][:, :n])


def near_cancellation(seed: int, n: int = 300) -> tuple[Tensor, ...]:
    """beta within a few units of -x * alpha, so that every bit of the product counts."""
    draw = torch.Generator().manual_seed(seed)
    x, alpha = torch.randn(2, n, generator=draw)
    units = torch.randint(-2, 3, (n,), generator=draw)
    return x, alpha, (-(x * alpha).view(torch.int32) + 0).add(units.int()).view(torch.float32).nan_to_num(1.0)


def subnormal_results(seed: int, n: int = 300) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(seed)
    x, alpha, beta = torch.randn(3, n, generator=draw)
    return x * 2.0**-70, alpha * 2.0**-70, beta * 2.0**-140


OPERANDS = {
    "traps": traps(),
    "random bits": random_bits(1),
    "near cancellation": near_cancellation(2),
    "subnormal results": subnormal_results(3),
}


def test_rational_arithmetic_rounds_half_to_even() -> None:
    one, unit = Fraction(1), Fraction(1, 2**23)
    assert nearest_float32(one + unit / 2) == 1.0
    assert nearest_float32(one + unit * 3 / 2) == 1.0 + 2 * 2.0**-23
    assert nearest_float32(one + unit / 2 + Fraction(1, 10**30)) == 1.0 + 2.0**-23
    assert nearest_float32(Fraction(1, 2**150)) == 0.0
    assert nearest_float32(Fraction(3, 2**150)) == 2.0**-148
    assert nearest_float32(Fraction(0.1)) == float(np.float32(0.1))


@pytest.mark.parametrize("operands", OPERANDS.values(), ids=OPERANDS)
def test_fused_multiply_add_rounds_once(operands: tuple[Tensor, ...]) -> None:
    assert torch.equal(fused_multiply_add(*operands), exact_multiply_add(*operands))


def test_traps_tell_the_three_ways_apart() -> None:
    x, alpha, beta = traps()
    exact = exact_multiply_add(x, alpha, beta)
    rounded_twice = x * alpha + beta
    by_float64 = (x.double() * alpha.double() + beta.double()).float()
    assert (rounded_twice != exact).sum() > len(x) / 4
    assert (by_float64 != exact).sum() > len(x) / 8


@pytest.mark.parametrize(
    ("x", "alpha", "beta", "expected"),
    [
        (INF, 1.0, 0.0, INF),
        (INF, 0.0, 0.0, NAN),
        (INF, 1.0, -INF, NAN),
        (NAN, 1.0, 0.0, NAN),
        (1.0, NAN, 0.0, NAN),
        (1.0, 1.0, NAN, NAN),
        (2.0**100, 2.0**100, 0.0, INF),
        (2.0**100, 2.0**100, -INF, -INF),
        (2.0**64, 2.0**64, -(2.0**127), 2.0**127),  # the product alone would overflow
        (1.0, -0.0, -0.0, -0.0),
        (1.0, -0.0, 0.0, 0.0),
        (1.0, 1.0, -1.0, 0.0),
        (-(2.0**-100), 2.0**-100, 0.0, -0.0),  # underflows, and keeps its sign
    ],
)
@MATMULS
def test_special_operands(
    implementation: ops.Implementation, x: float, alpha: float, beta: float, expected: float
) -> None:
    device = implementation.device
    arguments = matmul_arguments(*(torch.full((17,), value) for value in (x, alpha, beta)))
    result = implementation.call(*(a.to(device) if isinstance(a, Tensor) else a for a in arguments)).cpu()
    if expected != expected:
        assert result.isnan().all()
    else:
        assert_exact(result, torch.full((1, 17), expected))


@pytest.mark.parametrize(
    ("build", "implementation"),
    [
        pytest.param(build, found, marks=marks(found), id=f"{op.name}-{found.name}")
        for op, build in ((ops.binary_matmul, matmul_arguments), (ops.binary_conv2d, conv_arguments))
        for found in op.implementations()
    ],
)
@pytest.mark.parametrize("operands", OPERANDS.values(), ids=OPERANDS)
def test_last_step_of_every_implementation_rounds_once(
    build: Callable[..., tuple[Any, ...]], implementation: ops.Implementation, operands: tuple[Tensor, ...]
) -> None:
    arguments = (a.to(implementation.device) if isinstance(a, Tensor) else a for a in build(*operands))
    result = implementation.call(*arguments).cpu().flatten()
    assert torch.equal(result, exact_multiply_add(*operands))


@MATMULS
def test_every_step_rounds_to_float32(implementation: ops.Implementation) -> None:
    """acc = 4097 and offset, scale of 24 bits: the sum and the product each lose bits in float32."""
    k, n = 4097, 65
    draw = torch.Generator().manual_seed(5)
    offset, scale, alpha, beta = torch.randn((4, n), generator=draw)
    a, b = ops.pack_signs.reference(torch.ones(1, k)), ops.pack_signs.reference(torch.ones(n, k))
    rows = torch.stack([offset, scale, alpha, beta])
    device = implementation.device
    result = implementation.call(a.to(device), b.to(device), k, rows.to(device)).cpu()[0]
    scaled = (np.float32(k) + offset.numpy()) * scale.numpy()
    assert scaled.dtype == np.float32
    assert (scaled != (k + offset.double().numpy()) * scale.double().numpy()).any()
    assert_exact(result, exact_multiply_add(torch.from_numpy(scaled), alpha, beta))


def test_without_epilogue_the_accumulator_comes_back() -> None:
    acc = torch.tensor([[3, -5]], dtype=torch.int32)
    assert apply_epilogue(acc, None) is acc


def test_identity_epilogue_gives_the_accumulator_as_float() -> None:
    acc = torch.arange(-6, 6, dtype=torch.int32).view(4, 3)
    identity = torch.tensor([[0.0], [1.0], [1.0], [0.0]]).expand(4, 3)
    assert_exact(apply_epilogue(acc, identity), acc.float())
