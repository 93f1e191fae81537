# SPDX-License-Identifier: Apache-2.0
"""What methods share whose weights alone have few bits: inputs as they are, statistics of a weight, their options."""

from __future__ import annotations

from torch import Tensor

from bittern.quantizer import REAL_BITS, InputCode, Quantized, Quantizer, RealCode


class RealInputs(Quantizer):
    """A method that leaves inputs alone: x_q = x, and dL/dx = dL/dx_q."""

    input_bits = REAL_BITS

    def input(self, x: Tensor) -> Quantized:
        return Quantized(x)

    def input_code(self) -> InputCode:
        return RealCode()


def over_filter(w: Tensor) -> tuple[int, ...]:
    """The dimensions of one filter of a weight [out, in / groups, *kernel]."""
    return tuple(range(1, w.ndim))


def check_share(owner: str, option: str, value: object) -> None:
    """Raises: ValueError unless `value` is a number in [0, 1)."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.0 <= value < 1.0:
        raise ValueError(f"{owner}: {option} must be a number from 0 to below 1; got {value!r}")
