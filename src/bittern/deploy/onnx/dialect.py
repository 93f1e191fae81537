# SPDX-License-Identifier: Apache-2.0
"""How signs, levels and weights of few bits are written in ONNX: as plain arithmetic, or as QONNX's own nodes.

QONNX (Pappalardo et al. 2022, arXiv 2206.07527), which FINN, hls4ml and Brevitas read, has BipolarQuant, +scale where
x >= 0 and else -scale, and Quant, scale * clip(round_half_even(x / scale + zero point)), in the domain
`qonnx.custom_op.general`. With a scale of 1 both are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

DOMAIN = "qonnx.custom_op.general"


class Dialect(NamedTuple):
    """One way to write low-bit values."""

    sign: Callable[[Tensor], Tensor]
    """x -> +1 where x >= 0, else -1, also for NaN."""
    levels: Callable[[Tensor, int], Tensor]
    """(x, k) -> round_half_even(clip(x, 0, 2^k - 1)), 0 for NaN."""
    weight: Callable[[Tensor, int], Tensor]
    """(w, k): marks w as odd whole numbers of k planes."""


def _sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)  # the numbers alone would have torch's default type


def _levels(x: Tensor, bits: int) -> Tensor:
    return torch.round(torch.where(x > 0, x, 0.0).clamp(max=float(2**bits - 1)))


def _unmarked(w: Tensor, planes: int) -> Tensor:
    return w


ARITHMETIC = Dialect(_sign, _levels, _unmarked)
"""Comparisons, roundings and convolutions of standard ONNX: for every runtime."""


def _bipolar_quant(x: Tensor) -> Tensor:
    return _node("BipolarQuant", x, ())


def _quant(x: Tensor, bits: int, signed: bool) -> Tensor:
    """A scale of 1, a zero point of 0."""
    return _node("Quant", x, (0.0, float(bits)), signed=int(signed), narrow=int(signed), rounding_mode="ROUND")


def _node(name: str, x: Tensor, rest: tuple[float, ...], **attrs: Any) -> Tensor:
    """A node of QONNX with the inputs x, a scale of 1, and more numbers. Only torch.onnx knows what to do with it."""
    inputs = (x, *(torch.tensor(number, dtype=torch.float32) for number in (1.0, *rest)))
    made: Tensor = torch.onnx.ops.symbolic(f"{DOMAIN}::{name}", inputs, attrs, dtype=x.dtype, shape=x.shape, version=1)
    return made


def _quant_levels(x: Tensor, bits: int) -> Tensor:
    return _quant(x, bits, False)


def _quant_weight(w: Tensor, planes: int) -> Tensor:
    """Odd numbers of k planes lie in -(2^k - 1) ... 2^k - 1: signed, narrow, k + 1 bits."""
    return _bipolar_quant(w) if planes == 1 else _quant(w, planes + 1, True)


QONNX = Dialect(_bipolar_quant, _quant_levels, _quant_weight)
"""Nodes BipolarQuant and Quant: for FINN and other compilers of few bits."""
