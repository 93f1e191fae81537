# SPDX-License-Identifier: Apache-2.0
"""Squares of 8 bits rounded at random: places worked by hand, what stays exact, and that the mean has no bias."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from _tolerance import assert_exact
from bittern import ops
from bittern.ops.optimizer_step import Rule, state_table
from bittern.ops.optimizer_step.random_squares import LARGEST_FROM, encode_random_squares

TABLE = state_table(False, 8)
DRAWS = 1 << 16
EVERY_U = torch.arange(DRAWS).float() / DRAWS
"""All numbers that 16 random bits give."""
BLOCK = 256
IMPLEMENTATIONS = {
    "reference": ops.optimizer_step.reference,
    **{f"native[{isa.name.lower()}]": partial(ops.optimizer_step.native, isa) for isa in ops.available_isas()},
}


def codes_of(y: float, chance: Tensor) -> Tensor:
    return encode_random_squares(TABLE, torch.full_like(chance, y), chance)


def stored(run: Callable[..., None], squares: Tensor, seed: int = 3) -> tuple[Tensor, Tensor]:
    """Codes and absmax of these numbers, as the exp_inf of Adamax, which is |g| where it was 0."""
    n = len(squares)
    codes, absmax = torch.zeros(2, n, dtype=torch.uint8), torch.zeros(2, -(-n // BLOCK))
    scalars = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])  # grad_scale, and all that is kept or stepped
    step = (int(Rule.ADAMAX), [torch.zeros(n)], [squares], [*codes], [*absmax], scalars, [8], [BLOCK], [n], [])
    run(*step, None, torch.tensor([seed]), [8])
    return codes[1], absmax[1]


# ---- by hand


def test_a_square_between_two_entries() -> None:
    """0.3 of the way from entry 200 to 201: up where U < 0.3."""
    low, high = TABLE[200].item(), TABLE[201].item()
    y = low + 0.3 * (high - low)
    found = codes_of(y, torch.tensor([0.0, 0.29, 0.31, 1 - 2.0**-16]))
    assert found.tolist() == [201, 201, 200, 200]


def test_entries_stay_what_they_are() -> None:
    for u in (0.0, 2.0**-16, 0.5, 1 - 2.0**-16):
        assert_exact(encode_random_squares(TABLE, TABLE, torch.full((256,), u)), torch.arange(256))


@pytest.mark.parametrize("y", [2.0**-149, 1e-20, 1e-7, 3.2e-7])
def test_a_square_above_zero_is_at_least_the_smallest_entry(y: float) -> None:
    assert y < TABLE[1].item()
    assert (codes_of(y, EVERY_U) == 1).all()
    assert (codes_of(0.0, EVERY_U) == 0).all()


def test_the_largest_is_exact() -> None:
    """1 - 2^-24, which absmax / absmax may be, lies nearer to 1 than 16 random bits can tell."""
    for y in (1.0, 1.0 - 2.0**-24, LARGEST_FROM, 1.0 + 2.0**-23, 1.0 + 2.0**-22):
        assert (codes_of(y, EVERY_U) == 255).all()
    below = codes_of(LARGEST_FROM - 2.0**-12, EVERY_U)
    assert set(below.tolist()) == {254, 255}


# ---- every implementation


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_absmax_and_zeros_are_exact_at_every_size(name: str) -> None:
    """Also where 1 / absmax is a subnormal (from 2^126 on), and where all that counts is one element."""
    draw = torch.Generator().manual_seed(1)
    sizes = torch.cat([torch.logspace(-37.5, 38.4, 300), torch.rand(300, generator=draw) + 0.5, torch.tensor([3e38])])
    blocks = torch.zeros(len(sizes), BLOCK)
    blocks[:, 17] = sizes
    blocks[:, 18] = sizes * 1e-9
    codes, absmax = stored(IMPLEMENTATIONS[name], blocks.flatten())
    codes = codes.view(blocks.shape)
    assert_exact(absmax, sizes)
    assert (codes[:, 17] == 255).all()
    assert (codes[:, 18] == 1)[blocks[:, 18] * (1 / absmax) > 0].all()
    codes[:, 17:19] = 0
    assert not codes.any()


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("code", [1, 2, 3, 30, 127, 128, 200, 254])
def test_the_mean_has_no_bias(name: str, code: int) -> None:
    low, high = TABLE[code].double(), TABLE[code + 1].double()
    for place in (0.02, 0.5, 0.9):
        squares = torch.full((1 << 15,), float(low + place * (high - low)))
        squares[::BLOCK] = 1.0
        exact = squares[1].double()
        codes, absmax = stored(IMPLEMENTATIONS[name], squares)
        assert (absmax == 1).all()
        found = codes.view(-1, BLOCK)[:, 1:].flatten()
        assert set(found.tolist()) <= {code, code + 1}
        share = float((exact - low) / (high - low))
        sigma = float(high - low) * (share * (1 - share)) ** 0.5
        assert abs(float(TABLE.double()[found.long()].mean() - exact)) <= 5 * sigma / len(found) ** 0.5


def test_instruction_sets_agree_near_every_entry() -> None:
    """Each entry, its neighbours among floats, and both ends of every stretch that shares its upper 16 bits."""
    bits = TABLE.view(torch.int32)
    near = torch.cat([bits + k for k in (-2, -1, 0, 1, 2)])
    stretches = torch.arange(0x3400, 0x3F80, dtype=torch.int32) << 16
    y = torch.cat([near, stretches, stretches + 0xFFFF]).clamp(0, 0x3F800000).view(torch.float32)
    y = torch.cat([y, torch.zeros(-len(y) % (BLOCK - 1))]).view(-1, BLOCK - 1)
    squares = torch.cat([torch.ones(len(y), 1), y], 1).flatten()
    for seed in (0, 2**40 + 5):
        expected = stored(ops.optimizer_step.reference, squares, seed)
        for isa in ops.available_isas():
            found = stored(partial(ops.optimizer_step.native, isa), squares, seed)
            assert_exact(found[0], expected[0])
            assert_exact(found[1], expected[1])


def test_what_may_be_at_random() -> None:
    step = [int(Rule.SGD), [], [], [], [], torch.zeros(1, 3), [], [], [], []]
    with pytest.raises(ValueError, match=r"at_random must be of 4 and 8, bits of states; got \[32\]"):
        ops.optimizer_step(*step, None, None, [32])
