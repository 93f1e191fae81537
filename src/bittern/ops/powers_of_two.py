# SPDX-License-Identifier: Apache-2.0
"""Powers of two near a number, and grids whose step is one (WAGE, arXiv 1802.04680): plain functions of torch."""

from __future__ import annotations

import torch
from torch import Tensor

HALF_OCTAVE = 2.0**-0.5
"""Where the logarithm of a mantissa in [1/2, 1) is rounded up."""


def power_of_two(x: Tensor) -> Tensor:
    """Shift(x) = 2^round(log2 x) for x > 0, exactly; 1 for 0; x itself where it is not finite.

    The rounding has no tie: no float is a power of two times sqrt(2).
    """
    mantissa, exponent = torch.frexp(x.detach().double())
    rounded = torch.ldexp(torch.ones_like(mantissa), exponent - (mantissa <= HALF_OCTAVE).to(exponent.dtype))
    return torch.where(x == 0, 1.0, torch.where(x.isfinite(), rounded, x.double())).to(x.dtype)


def shifted(g: Tensor) -> Tensor:
    """g / Shift(max |g|): its largest magnitude lies in (sqrt(1/2), sqrt(2)]; a tensor of zeros stays."""
    return g / power_of_two(g.detach().abs().amax()) if g.numel() else g


def on_grid(x: Tensor, bits: int) -> Tensor:
    """Q(C(x)): multiples of s = 2^(1 - bits), to even, between -1 + s and 1 - s."""
    steps = 2.0 ** (bits - 1)
    return torch.round(x * steps).clamp(1.0 - steps, steps - 1.0) / steps
