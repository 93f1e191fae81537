# SPDX-License-Identifier: Apache-2.0
"""TQT: steps that are powers of two, whose thresholds are learned as logarithms (1903.08066)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from bittern._first_batch import FirstBatchQuantizer
from bittern._options import check_bits, check_choice
from bittern.codes import Code
from bittern.estimators import straight_through
from bittern.quant._steps import LEAST_BITS, MOST_BITS, nearest, signed
from bittern.quantizer import LayerShape, Quantized, StepsCode

LEAST_LOG, MOST_LOG = -64.0, 64.0
"""What a logarithm of a threshold is clipped to, so that steps stay numbers."""


class TQT(FirstBatchQuantizer):
    """Weights and inputs of k bits in steps that are powers of two, with a learned threshold t of each.

    Forward: v_q = s clip(round_half_even(v / s), n, p). Weights, and inputs="signed": n = -2^(k - 1), p = -n - 1,
    s = 2^ceil(log2 t) / 2^(k - 1); inputs="unsigned": n = 0, p = 2^k - 1, s = 2^ceil(log2 t) / 2^k. NaN is 0.
    Backward, with g the gradient of v_q and r = round_half_even(v / s): ceil counts as the identity. dv = g where
    n <= r <= p, else 0; d(log2 t) = s ln 2 times the sum of g (r - v / s) there, of n g below and of p g above.
    Start: weights as the network's real ones. On the first batch in training t = |mean v| + 3 std v, of the weight and
    of that batch. Before: the same of a weight; 1 of inputs.

    Differences: the paper finds thresholds of inputs by a divergence of histograms (KL-J) on calibration data. It
    trains every layer, the first and the last in 8 bits; a converted network keeps these real. log2 t is clipped to
    -64 ... 64. Released code of others rounds ties of negative inputs up; here, as in the paper, to even.
    Errors: ValueError for bits outside 2 ... 8, or other inputs.
    Source: arXiv 1903.08066; Xilinx's TQTQuantizer (pytorch_nndct).
    """

    def __init__(
        self,
        shape: LayerShape,
        *,
        weight_bits: int = 8,
        input_bits: int = 8,
        inputs: Literal["unsigned", "signed"] = "unsigned",
    ) -> None:
        super().__init__(shape)
        check_bits("TQT", "weight_bits", weight_bits, MOST_BITS, least=LEAST_BITS)
        check_bits("TQT", "input_bits", input_bits, MOST_BITS, least=LEAST_BITS)
        check_choice("TQT", "inputs", inputs, ("unsigned", "signed"))
        self.weight_bits, self.input_bits = weight_bits, input_bits
        self.numbers = signed(weight_bits, by_filter=False)
        self.zero = 2 ** (input_bits - 1) if inputs == "signed" else 0
        self.weight_log = nn.Parameter(torch.tensor(0.0))
        """log2 of the threshold of the weight, 0-dim."""
        self.input_log = nn.Parameter(torch.tensor(0.0))

    def weight(self, w: Tensor) -> Quantized:
        log = self._log("weight", self.weight_log, w.detach())
        step = _step(log, self.weight_bits - 1)
        position = w / step
        return Quantized(_rounded(position, nearest(position, self.numbers), self.numbers), step)

    def weight_code(self) -> Code:
        return self.numbers

    def input(self, x: Tensor) -> Quantized:
        if self.training and x.numel():
            self._log("input", self.input_log, x.detach())
        step = self._input_step()
        code = StepsCode(self.input_bits, step, self.zero)
        position = code.position(x)
        return Quantized(_rounded(position, code.rounded(position), code.grid), step)

    def _input_step(self) -> Tensor:
        return _step(self.input_log, self.input_bits - (1 if self.zero else 0))

    def input_code(self) -> StepsCode:
        return StepsCode(self.input_bits, self._input_step(), self.zero)

    def _log(self, operand: str, parameter: Tensor, v: Tensor) -> Tensor:
        """log2 t, as it is or, before the first batch in training, as it would start."""
        if self.has_started(operand):
            return parameter
        size = v.mean().abs() + 3.0 * v.std(correction=0)
        sound = size.isfinite() & (size > 0.0)
        fresh = torch.where(sound, size, 1.0).log2().to(parameter.dtype)
        if not self.starts(operand):
            return fresh
        with torch.no_grad():
            parameter.copy_(torch.where(sound, fresh, parameter))
        return parameter


def _step(log: Tensor, bits: int) -> Tensor:
    """2^(ceil(log) - bits), exactly, whose derivative by log is itself times ln 2."""
    ceiled = log.detach().clamp(LEAST_LOG, MOST_LOG).ceil() - bits
    step = torch.ldexp(torch.ones_like(ceiled), ceiled.to(torch.int32))
    return straight_through(step, log, step * math.log(2.0))


def _rounded(position: Tensor, numbers: Tensor, code: Code) -> Tensor:
    """`numbers` with the gradient of the positions that round to one of the code."""
    level = torch.round(position.detach())
    return straight_through(numbers, position, ((level >= code.low) & (level <= code.high)).to(level.dtype))
