# SPDX-License-Identifier: Apache-2.0
"""The code tables of `bitsandbytes.functional`, in its layout: always 256 entries, short tables filled up with 0."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops import codebooks

ENTRIES = 256


def _filled(values: Tensor) -> Tensor:
    """Zeros added up to 256 entries, sorted."""
    return torch.cat([values.float(), torch.zeros(ENTRIES - len(values))]).sort().values


def create_dynamic_map(signed: bool = True, max_exponent_bits: int = 7, total_bits: int = 8) -> Tensor:
    """Dynamic tree map (arXiv:1511.04561), float32 [256].

    max_exponent_bits below total_bits - 1 gives the last decade 2^(total_bits - 1 - max_exponent_bits) - 1 more levels;
    more than that has no room in a signed map and changes nothing.
    Errors: ValueError where the levels are not 2^total_bits: an unsigned map needs max_exponent_bits = total_bits - 1.
    """
    if not (max_exponent_bits >= 1 and 2 <= total_bits <= 8):
        raise ValueError(
            "create_dynamic_map: needs max_exponent_bits from 1 and total_bits from 2 to 8; "
            f"got {max_exponent_bits} and {total_bits}"
        )
    spare = total_bits - 1 - max_exponent_bits
    if signed:
        spare = max(spare, 0)
    if spare == 0:
        return _filled(codebooks.dynamic_tree(signed=signed, bits=total_bits))
    if not signed:
        raise ValueError("create_dynamic_map: an unsigned map needs max_exponent_bits = total_bits - 1")
    levels = []
    for i in range(max_exponent_bits):
        borders = torch.linspace(0.1, 1, 2 ** (i + spare) + 1, dtype=torch.float32)
        levels.append(10 ** (i + 1 - max_exponent_bits) * ((borders[:-1] + borders[1:]) / 2))
    borders = torch.linspace(0.1, 1, 2**spare, dtype=torch.float32)
    levels.append((borders[:-1] + borders[1:]) / 2)
    positive = torch.cat(levels)
    return _filled(torch.cat([positive, -positive, torch.tensor([0.0, 1.0])]))


def create_linear_map(signed: bool = True, total_bits: int = 8, add_zero: bool = True) -> Tensor:
    """Equally spaced entries of [-1, 1] or [0, 1], float32 [256]; the middle is filled up with 0.

    add_zero: a signed map has 2^total_bits - 1 steps and so contains 0; below 8 bits it always does.
    """
    odd = signed and (add_zero or total_bits < 8)
    values = torch.linspace(-1.0 if signed else 0.0, 1.0, 2**total_bits - int(odd))
    gap, half = ENTRIES - len(values), len(values) // 2
    return torch.cat([values[:half], torch.zeros(gap), values[half:]]) if gap else values


def create_normal_map(offset: float = 0.9677083, use_extra_value: bool = True) -> Tensor:
    """Quantiles of N(0, 1) between 1 - offset and offset over the largest, and 0: float32 [256] (arXiv:2305.14314).

    use_extra_value: eight positive and seven negative entries (NF4) instead of seven of each.
    """

    def quantiles(count: int) -> Tensor:
        places = torch.linspace(offset, 0.5, count + 1)[:-1].double()
        found: Tensor = torch.special.ndtri(places)
        return found

    values = torch.cat([quantiles(8 if use_extra_value else 7), -quantiles(7)]).float()
    values = _filled(values)
    return values / values.max()


def create_fp8_map(signed: bool = True, exponent_bits: int = 5, precision_bits: int = 2, total_bits: int = 8) -> Tensor:
    """A small float format over its largest value, float32 [256].

    Value of exponent field e and fraction f: f 2^-b for e = 0, else (1 + f) 2^(b + 1 - e), b = 2^(exponent_bits - 1).
    Errors: ValueError unless the bits add up to total_bits.
    """
    if exponent_bits + precision_bits + int(signed) != total_bits:
        raise ValueError(
            f"create_fp8_map: sign, exponent_bits={exponent_bits} and precision_bits={precision_bits} "
            f"must add up to total_bits={total_bits}"
        )
    bias = 2 ** (exponent_bits - 1)
    fractions = torch.arange(2**precision_bits, dtype=torch.float64) / 2**precision_bits
    rows = [fractions * 2.0**-bias]
    rows += [(1 + fractions) * 2.0 ** (bias + 1 - e) for e in range(1, 2**exponent_bits)]
    values = torch.cat(rows)
    if signed:
        values = torch.cat([values, -values])
    values = _filled(values)
    return values / values.max()


def get_4bit_type(typename: str, device: torch.device | str | None = None, blocksize: int = 64) -> Tensor:
    """The sixteen values of "nf4", "fp4" or "int4" by stored bit pattern, float32 [16].

    device: None is the CPU (bitsandbytes: CUDA). Errors: NotImplementedError for another name.
    """
    if typename == "nf4":
        table = codebooks.nf4()
    elif typename == "fp4":
        table = codebooks.fp4()[list(codebooks.FP4_PATTERN)]
    elif typename == "int4":
        table = torch.tensor([*range(7, -1, -1), *range(0, -8, -1)]) / 7.0
        table = table / table.abs().max()
    else:
        raise NotImplementedError(f"get_4bit_type: there are 'nf4', 'fp4' and 'int4'; got {typename!r}")
    return table.to(device or "cpu")
