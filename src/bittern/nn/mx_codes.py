# SPDX-License-Identifier: Apache-2.0
"""MXFP4: numbers of 4 bits with one power of two for 32 of them, and a weight's way to them.

A code is a sign, two bits of an exponent and one of a fraction (E2M1): 0, 0.5, 1, 1.5, 2, 3, 4 and 6, and 8 more for
the same below 0. A scale is the biased exponent of a power of two (E8M0): e stands for 2^(e - 127), 255 for no number.
From a group of 32 numbers V_i, the largest of them in magnitude m,

    X = 2^(floor(log2 m) - 2),   P_i = V_i / X to the nearest code, half to even, at most 6 in magnitude,

so that the largest lies between 4 and 8 in units of X, and what is above 6 is cut off. A group of zeros has e = 0.
Scales above 2^125, which no float32 weight has by this rule, are refused: 6 of them are no float32.
Source: OCP Microscaling Formats (MX) v1.0, sections 5.2, 5.3 and 6.3; arXiv:2310.10537.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from bittern.ops.e8m0 import powers

GROUP = 32
"""Numbers that share a scale."""
BIAS, MOST = 127, 252
"""Of scales; the largest whose numbers are all finite in float32."""
_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_LARGEST_EXPONENT = 2
"""Of a code: 6 = 1.5 * 2^2."""


def table() -> Tensor:
    """float32 [16]: what the codes stand for, in their order."""
    return torch.tensor([*_MAGNITUDES, *(-value for value in _MAGNITUDES)])


def round_to_mx(weight: Tensor) -> tuple[Tensor, Tensor]:
    """float32 [rows, columns], finite, in whole groups -> codes uint8 likewise, exponents uint8 [rows, groups]."""
    groups = weight.reshape(weight.shape[0], weight.shape[1] // GROUP, GROUP)
    _, exponent = torch.frexp(groups.abs().amax(-1))  # m = f * 2^exponent, f in [0.5, 1)
    biased = exponent - 1 - _LARGEST_EXPONENT + BIAS
    biased = torch.where((groups == 0).all(-1), 0, biased).clamp(min=0)
    units = groups * powers(2 * BIAS - biased).unsqueeze(-1)  # 1 / X, exact
    borders = torch.tensor([(a + b) / 2 for a, b in pairwise(_MAGNITUDES)], device=weight.device)
    sizes = units.abs().contiguous()
    below, above = torch.bucketize(sizes, borders), torch.bucketize(sizes, borders, right=True)
    magnitude = torch.where(below % 2 == 0, below, above)  # they differ on a border alone, where the even one is meant
    codes = magnitude | torch.signbit(groups).long() << 3
    return codes.to(torch.uint8).flatten(-2), biased.to(torch.uint8)


def check_exponents(owner: str, exponents: Tensor) -> None:
    """ValueError for a scale that is no number, or whose numbers float32 cannot hold."""
    if exponents.is_meta or not exponents.numel() or int(exponents.max()) <= MOST:
        return
    none = int((exponents == 255).sum())
    what = f"{none} of 255, which stands for no number (NaN)" if none else f"{int(exponents.max())}"
    raise ValueError(
        f"{owner}: scales must be 0 ... {MOST}, for 2^-{BIAS} ... 2^{MOST - BIAS}; got {what}; quantize the weight anew"
    )
