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

from bittern.codes import Code

DOMAIN = "qonnx.custom_op.general"


class Dialect(NamedTuple):
    """One way to write low-bit values."""

    sign: Callable[[Tensor], Tensor]
    """x -> +1 where x >= 0, else -1, also for NaN."""
    levels: Callable[[Tensor, Code], Tensor]
    """(x, code of levels 0 ... n) -> round_half_even(clip(x, 0, n)), 0 for NaN."""
    weight: Callable[[Tensor, Code], Tensor]
    """(w, code): marks w as numbers of this code."""


def _sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)  # the numbers alone would have torch's default type


def _levels(x: Tensor, code: Code) -> Tensor:
    return torch.round(torch.where(x > 0, x, 0.0).clamp(max=float(code.high)))


def _unmarked(w: Tensor, code: Code) -> Tensor:
    return w


ARITHMETIC = Dialect(_sign, _levels, _unmarked)
"""Comparisons, roundings and convolutions of standard ONNX: for every runtime."""


def _bipolar_quant(x: Tensor) -> Tensor:
    return _node("BipolarQuant", x, ())


def _quant(x: Tensor, code: Code) -> Tensor:
    """Whole numbers with a scale of 1, of as few bits as hold the code: its neighbours may be 2 apart."""
    signed = int(code.low < 0)
    bits = float((code.high - code.low).bit_length())
    return _node("Quant", x, (float(code.zero_point), bits), signed=signed, narrow=signed, rounding_mode="ROUND")


def _node(name: str, x: Tensor, rest: tuple[float, ...], **attrs: Any) -> Tensor:
    """A node of QONNX with the inputs x, a scale of 1, and more numbers. Only torch.onnx knows what to do with it."""
    inputs = (x, *(torch.tensor(number, dtype=torch.float32) for number in (1.0, *rest)))
    made: Tensor = torch.onnx.ops.symbolic(f"{DOMAIN}::{name}", inputs, attrs, dtype=x.dtype, shape=x.shape, version=1)
    return made


def _quant_weight(w: Tensor, code: Code) -> Tensor:
    """Signs, or numbers symmetric about 0: signed, and narrow because the lowest of two's complement is none."""
    return _bipolar_quant(w) if code.bits == 1 else _quant(w, code)


QONNX = Dialect(_bipolar_quant, _quant, _quant_weight)
"""Nodes BipolarQuant and Quant: for FINN and other compilers of few bits."""
