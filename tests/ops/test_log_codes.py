# SPDX-License-Identifier: Apache-2.0
"""The codes of log_codes.py: numbers worked by hand, what levels are, and that rounding at random has no bias."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from _conv_cases import generator
from bittern.ops.optimizer_step import log_codes
from bittern.ops.optimizer_step.log_codes import decode_ratios, decode_squares, encode_ratios, encode_squares

OCTAVE = 1 << 23
TINY = 2.0**-126
MOST = torch.finfo(torch.float32).max
DRAWS = 1 << 16
EVERY_U = torch.arange(DRAWS).float() / DRAWS
"""All numbers that 16 random bits give."""


def bits(x: Tensor) -> Tensor:
    return x.view(torch.int32).long()


def squares(v: Tensor, chance: Tensor | float = 0.5) -> Tensor:
    """Encoded and decoded."""
    return decode_squares(*encode_squares(v, chance))


def ratios(m: Tensor, v: Tensor, chance: Tensor | float = 0.5) -> Tensor:
    """Encoded and decoded, with squares as they are."""
    return decode_ratios(*encode_ratios(m, v, chance), v)


def spread(blocks: int, n: int, sigma: float, name: str) -> Tensor:
    """Squares from exp(-sigma) to exp(sigma)."""
    draw = generator(name)
    return ((torch.rand(blocks, n, generator=draw) * 2 - 1) * sigma).exp()


# ---- by hand


def test_squares_a_power_of_two_apart() -> None:
    """1 and 2^-14 are 14 octaves apart, so that each power between them is a level of its own."""
    v = 2.0 ** -torch.arange(15.0)
    codes, levels = encode_squares(torch.cat([v, torch.zeros(1)])[None], 0.5)
    assert codes.tolist() == [[15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]]
    assert levels.tolist() == [[1.0, 2.0**-14]]
    assert decode_squares(codes, levels).tolist() == [[*v.tolist(), 0.0]]


def test_a_square_between_two_levels() -> None:
    """0.75 lies half way from 0.5 to 1, one octave: it goes up where U < 1/2 - 0.0866 / 4 = 0.47835."""
    v = torch.tensor([[1.0, 0.75, 2.0**-14]])
    for chance, code in ((0.0, 15), (0.478, 15), (0.479, 14), (0.999, 14)):
        assert encode_squares(v, chance)[0].tolist() == [[15, code, 1]]


def test_ratios_of_sevenths() -> None:
    """Means of -7 to 7 beside squares of 1: their own levels; then squares of 4, which halve the ratio."""
    m = torch.arange(-7.0, 8.0)[None]
    codes, largest = encode_ratios(m, torch.ones(1, 15), 0.5)
    assert codes.tolist() == [[9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]]
    assert largest.tolist() == [7.0]
    assert decode_ratios(codes, largest, torch.ones(1, 15)).equal(m)
    codes, largest = encode_ratios(torch.tensor([[7.0, -2.0, 1.0]]), torch.tensor([[1.0, 4.0, 4.0]]), 0.5)
    assert codes.tolist() == [[7, 15, 1]]  # 7, -1 and 1/2, which 1/2 lifts to the next level
    assert decode_ratios(codes, largest, torch.tensor([[1.0, 4.0, 4.0]])).tolist() == [[7.0, -2.0, 2.0]]


def test_a_ratio_between_two_levels() -> None:
    m, v = torch.tensor([[7.0, 2.25, -2.25]]), torch.ones(1, 3)
    for chance, up, down in ((0.0, 2, -3), (0.2, 2, -3), (0.25, 2, -2), (0.74, 2, -2), (0.75, 3, -2), (0.99, 3, -2)):
        assert ratios(m, v, chance).tolist() == [[7.0, up, down]]


# ---- levels of squares


@pytest.mark.parametrize("sigma", [0.01, 1.0, 4.0, 60.0])
def test_levels_of_squares_are_even_in_bits(sigma: float) -> None:
    v = spread(50, 64, sigma, f"levels {sigma}").clamp(TINY, MOST)
    _, levels = encode_squares(v, 0.5)
    decoded = decode_squares(torch.arange(1, 16).expand(len(v), -1), levels)
    gaps = bits(decoded).diff(dim=-1)
    steps = (bits(levels)[:, 0] - bits(levels)[:, 1]) // 14
    clear = bits(decoded)[:, :-1] > log_codes.LEAST_BITS
    assert (gaps == steps[:, None])[clear].all()
    assert (gaps <= steps[:, None]).all()
    assert (steps >= OCTAVE // 32).all()
    assert (steps <= 2 * OCTAVE).all()
    assert decoded[:, -1].equal(v.amax(-1))


def test_steps_between_the_least_and_the_largest() -> None:
    for low, step in ((0.99, OCTAVE // 32), (2.0**-7, OCTAVE // 2), (2.0**-14, OCTAVE), (2.0**-60, 2 * OCTAVE)):
        _, levels = encode_squares(torch.tensor([[1.0, low]]), 0.5)
        assert ((bits(levels)[0, 0] - bits(levels)[0, 1]) == 14 * step).all()


@pytest.mark.parametrize("u", [2.0**-16, 0.3, 0.5, 1 - 2.0**-16])
def test_levels_stay_what_they_are(u: float) -> None:
    """A block that has all of its levels is stored the same again, whatever U; of U = 0, see the next test."""
    once, codes, levels = every_level()
    again, found = encode_squares(once, u)
    assert again.equal(codes)
    assert found.equal(levels)


def test_the_least_chance_lifts_levels_where_their_place_is_rounded_up() -> None:
    once, codes, _ = every_level()
    lifted = encode_squares(once, 0.0)[0] - codes
    assert 0 <= int(lifted.min()) <= int(lifted.max()) <= 1


def every_level() -> tuple[Tensor, Tensor, Tensor]:
    """Squares, codes 1 to 15, levels of 1000 blocks."""
    draw = generator("every level")
    most = torch.randint(90 * OCTAVE, 250 * OCTAVE, (1000, 1), generator=draw)
    step = torch.randint(OCTAVE // 32, 2 * OCTAVE + 1, (1000, 1), generator=draw)
    levels = torch.cat([most, most - 14 * step], -1).to(torch.int32).view(torch.float32)
    codes = torch.arange(1, 16).expand(1000, -1)
    return decode_squares(codes, levels), codes, levels


@pytest.mark.parametrize("u", [0.0, 0.25, 0.5, 1 - 2.0**-16])
@pytest.mark.parametrize("sigma", [0.01, 0.3, 3.0, 60.0])
def test_what_rounding_at_random_keeps(sigma: float, u: float) -> None:
    """Order, the largest, and zeros; others move by less than a level."""
    v = spread(100, 64, sigma, f"kept {sigma}").clamp(TINY, MOST)
    v[:, ::7] = 0.0
    codes, levels = encode_squares(v, u)
    decoded = decode_squares(codes, levels)
    assert (codes == 0).equal(v == 0)
    assert (decoded == 0).equal(v == 0)
    assert decoded.amax(-1).equal(v.amax(-1))
    order = v.argsort(-1)
    assert (decoded.gather(-1, order).diff(dim=-1) >= 0).all()
    lowest, step = bits(levels)[:, 1:], (bits(levels)[:, :1] - bits(levels)[:, 1:]) // 14
    covered = (v > 0) & (bits(v) >= lowest)
    assert ((bits(decoded) - bits(v)).abs() <= step + 16)[covered].all()
    below = (v > 0) & (bits(v) < lowest)
    assert (codes[below] == 1).all()


@pytest.mark.parametrize("largest", [1e-38, 1e-30, 1e-3, 1.0, 1e20, 3e38])
@pytest.mark.parametrize("sigma", [0.1, 10.0, 60.0])
def test_squares_of_every_size(largest: float, sigma: float) -> None:
    v = spread(20, 128, sigma, f"sizes {sigma}")
    v = (v.double() / v.amax(-1, keepdim=True) * largest).float()
    codes, levels = encode_squares(v, 0.5)
    decoded = decode_squares(codes, levels)
    assert decoded.isfinite().all()
    assert levels.isfinite().all()
    assert (levels > 0).equal((v.amax(-1) >= TINY)[:, None].expand(-1, 2))
    assert (decoded == 0).equal(v < TINY)
    assert (decoded[decoded > 0] >= TINY).all()


@pytest.mark.parametrize("value", [0.0, 2.0**-149, 2.0**-127])
def test_blocks_of_zeros_and_of_subnormals_are_zeros(value: float) -> None:
    codes, levels = encode_squares(torch.full((2, 32), value), EVERY_U[:32])
    assert not codes.any()
    assert not levels.any()
    assert not decode_squares(codes, levels).any()
    codes, largest = encode_ratios(torch.ones(2, 32), torch.full((2, 32), value), EVERY_U[:32])
    assert not codes.any()
    assert not largest.any()


@pytest.mark.parametrize("value", [2.0**-126, 3e-30, 1.0, 3e38])
def test_a_block_of_one_element_is_exact(value: float) -> None:
    v = torch.tensor([[value]])
    assert squares(v, EVERY_U[-1]).equal(v)
    m = v.sqrt() * 0.3
    assert_close(ratios(m, v, EVERY_U[-1]), m, 4)
    assert_close(ratios(-m, v, EVERY_U[1]), -m, 4)


def assert_close(a: Tensor, b: Tensor, roundings: int) -> None:
    torch.testing.assert_close(a, b, rtol=roundings * 2.0**-24, atol=0.0)


# ---- at random


@pytest.mark.parametrize("octaves", [2.0**-5, 0.25, 1.0, 2.0])
def test_fourth_roots_of_squares_have_no_bias(octaves: float) -> None:
    """Between levels `octaves` apart; a block's own bias, which depends on where its levels lie, is below 1.5 %."""
    draw = generator(f"fourth roots {octaves}")
    step, blocks, parts = int(octaves * OCTAVE), 1000, 16
    most = torch.randint(120 * OCTAVE, 130 * OCTAVE, (blocks, 1), generator=draw)
    inner = most - 14 * step + (torch.rand(blocks, 64, generator=draw) * (13 * step)).long()
    v = torch.cat([most, most - 14 * step, inner], -1).to(torch.int32).view(torch.float32)
    chances = [(torch.rand(v.shape, generator=draw) + part) / parts for part in range(parts)]
    mean = torch.stack([squares(v, chance).double().pow(0.25) for chance in chances]).mean(0)
    bias = (mean / v.double().pow(0.25) - 1)[:, 2:].mean(-1)
    assert abs(float(bias.mean())) < 0.001
    assert float(bias.abs().max()) < 0.015


def test_ratios_have_no_bias() -> None:
    for value in torch.linspace(-1.0, 1.0, 41):
        m = torch.cat([torch.ones(1), value.expand(DRAWS)])[None]
        mean = ratios(m, torch.ones_like(m), torch.cat([torch.zeros(1), EVERY_U]))[0, 1:].double().mean()
        assert abs(float(mean - value)) < 2.0**-16


# ---- ratios


def test_ratios_are_within_a_level_and_the_largest_within_roundings() -> None:
    draw = generator("ratio levels")
    v = spread(100, 64, 8.0, "ratio squares").clamp(1e-30, 1e30)
    m = torch.randn(v.shape, generator=draw) * v.sqrt()
    ratio = m / v.sqrt()
    largest = ratio.abs().amax(-1, keepdim=True)
    for u in (2.0**-16, 0.5, 1 - 2.0**-16):  # 0 takes a level from the largest where its product is rounded down
        found = ratios(m, v, u) / v.sqrt()
        assert ((found - ratio).abs() <= largest / 7 * (1 + 1e-5)).all()
        top = ratio == largest
        assert_close(found[top], ratio[top], 8)


def test_levels_of_ratios_are_their_own_at_every_chance() -> None:
    codes = torch.arange(-7, 8)[None] & 15
    v = torch.ones(1, 15)
    for largest in (1.0, 0.875, 3.5):  # whose sevenths and their inverses lose nothing
        m = decode_ratios(codes, torch.tensor([largest]), v)
        for u in (0.25, 0.5, 0.75):
            again, _ = encode_ratios(m, v, u)
            assert again.equal(codes)


@pytest.mark.parametrize("tiny", [1e-37, 2.0**-126])
def test_an_infinite_ratio_makes_no_nan(tiny: float) -> None:
    """Neither its own, nor means of 0 beside the largest squares in its block."""
    m = torch.tensor([[3e38, -3e38, 0.0, 1.0]])
    v = torch.tensor([[tiny, tiny, MOST, MOST]])
    for u in (0.0, 0.5, 1 - 2.0**-16):
        codes, largest = encode_ratios(m, v, u)
        assert largest.tolist() == [log_codes.MOST_RATIO]
        assert codes[0, :2].tolist() == [7, 9]
        decoded = decode_ratios(codes, largest, v)
        assert decoded.isfinite().all()
        assert decoded[0, 2] == 0


def test_ratios_too_small_for_an_inverse_are_zeros() -> None:
    m, v = torch.tensor([[2.0**-121, 0.0]]), torch.ones(1, 2)
    codes, largest = encode_ratios(m, v, EVERY_U[-1])
    assert not codes.any()
    assert not largest.any()
    assert math.isfinite(7 / log_codes.LEAST_RATIO)
    codes, largest = encode_ratios(2 * m, v, 0.5)
    assert codes.tolist() == [[7, 0]]
    assert largest.tolist() == [log_codes.LEAST_RATIO]


def test_a_mean_without_a_square_is_zero() -> None:
    m, v = torch.tensor([[1.0, 1.0, -1.0]]), torch.tensor([[0.0, 1.0, 2.0**-127]])
    assert ratios(m, v).tolist() == [[0.0, 1.0, 0.0]]
