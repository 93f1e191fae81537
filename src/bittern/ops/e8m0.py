# SPDX-License-Identifier: Apache-2.0
"""E8M0: a scale that is a power of two in one byte, its biased exponent e, for 2^(e - 127); 255 stands for NaN.

Source: OCP Microscaling Formats (MX) v1.0, section 5.4.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

NO_NUMBER = 255
_FRACTION_BITS, _SUBNORMAL, _NAN = 23, 1 << 22, 0x7FC00000
"""Of float32: where its exponent begins, the bits of 2^-127, and those of a NaN."""


def powers(exponents: Tensor) -> Tensor:
    """Integers e from 0 to 254 -> 2^(e - 127), float32, exact; 255 -> NaN."""
    e = exponents.to(torch.int32)
    bits = (e << _FRACTION_BITS).clamp_(min=_SUBNORMAL)
    return torch.where(e == NO_NUMBER, _NAN, bits).view(torch.float32)
