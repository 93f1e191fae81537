# SPDX-License-Identifier: Apache-2.0
"""LSQ+: learned steps, and a learned offset of inputs (2004.09576)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bittern._first_batch import FirstBatchQuantizer
from bittern._options import check_bits
from bittern.codes import Code
from bittern.estimators import straight_through
from bittern.quant._steps import LEAST_BITS, MOST_BITS, features, learned, nearest, rounded, set_where_sound, signed
from bittern.quantizer import InputCode, LayerShape, OnesCode, Quantized, StepsCode

CANDIDATES = 64
"""Ranges that are tried for the first step and offset of inputs."""
SAMPLED = 2**16
"""Of about so many numbers of the batch."""


class LSQPlus(FirstBatchQuantizer):
    """Weights of k bits in learned steps, and inputs of k bits in learned steps from a learned offset b on.

    Forward: weights w_q = s round_half_even(clip(W / s, -2^(k - 1), 2^(k - 1) - 1)), one s of the layer. Inputs
    x_q = s round_half_even(clip((x - b) / s, 0, 2^k - 1)) + b, where b is a term of its own (a product of ones):
    padding is a real 0. NaN is b.
    Backward as LSQ's: dv = 1 strictly inside the range; ds = 1/sqrt(N Qp) times the sum of g (v_q - v) / s there, of
    the end's number times g outside; db = 1/sqrt(N Qp) times the sum of g outside. N: the weights of the layer, or the
    inputs of one sample; Qp: the highest number.
    Start: weights as the network's real ones. On the first batch in training s of the weight is
    (|m| + 3 d) / 2^(k - 1), m and d its mean and deviation; s and b of inputs are those of 64 ranges
    within their least and largest number that have the least squared error on that batch. Before: the same of a
    weight; 1 and 0 of inputs.

    Differences: this is the paper's configuration of unsigned numbers with an offset. The paper fits s and b of inputs
    to the same error by an optimizer on some batches; here ranges are tried on one. The divisor of the weight's first s
    was not read in the paper; another implementation's notes have (2^k - 1) / 2. Steps below 1e-8 count as that, and of
    steps below 0 their size is used. First and last layer stay real in a converted network.
    Errors: ValueError for bits outside 2 ... 8.
    Source: arXiv 2004.09576.
    """

    def __init__(self, shape: LayerShape, *, weight_bits: int = 4, input_bits: int = 4) -> None:
        super().__init__(shape)
        check_bits("LSQPlus", "weight_bits", weight_bits, MOST_BITS, least=LEAST_BITS)
        check_bits("LSQPlus", "input_bits", input_bits, MOST_BITS, least=LEAST_BITS)
        self.weight_bits, self.input_bits = weight_bits, input_bits
        self.numbers = signed(weight_bits, by_filter=False)
        self.weight_step = nn.Parameter(torch.tensor(1.0))
        self.input_step = nn.Parameter(torch.tensor(1.0))
        self.offset = nn.Parameter(torch.tensor(0.0))
        """b, 0-dim: the input at level 0."""

    def weight(self, w: Tensor) -> Quantized:
        step = learned(self._weight_step(w.detach()), 1.0 / math.sqrt(w.numel() * self.numbers.high))
        position = w / step
        return Quantized(rounded(position, nearest(position, self.numbers), self.numbers), step)

    def _weight_step(self, w: Tensor) -> Tensor:
        """The step of the weight, as it is or, before the first batch in training, as it would start."""
        if not self.has_started("weight"):
            fresh = (w.mean().abs() + 3.0 * w.std(correction=0)) / -self.numbers.low
            if not self.starts("weight"):
                return fresh
            set_where_sound(self.weight_step, fresh)
        return self.weight_step

    def weight_code(self) -> Code:
        return self.numbers

    def input(self, x: Tensor) -> tuple[Quantized, ...]:
        if self.starts("input") and x.numel():
            self._start_input(x.detach())
        high = 2**self.input_bits - 1
        share = 1.0 / math.sqrt(features(x) * high)
        step = learned(self.input_step, share)
        offset = straight_through(self.offset.detach(), self.offset, torch.full_like(self.offset, share))
        code = StepsCode(self.input_bits, step, 0, offset)
        position = code.position(x)
        values = rounded(position, code.rounded(position), code.grid)
        return Quantized(values, step), Quantized(torch.ones_like(x), offset)

    @torch.no_grad()
    def _start_input(self, x: Tensor) -> None:
        """The range, of those within least and largest number, whose levels lie nearest; none of equal numbers."""
        sample = x.flatten()[:: max(1, x.numel() // SAMPLED)]
        low, high = sample.aminmax()
        if not bool((high - low).isfinite() & (high > low)):
            return
        least = torch.inf
        for share in torch.linspace(1.0 / CANDIDATES, 1.0, CANDIDATES).tolist():
            step, offset = (high - low) * share / (2**self.input_bits - 1), low * share
            levels = StepsCode(self.input_bits, step, 0, offset).values(sample)
            error = float((levels * step + offset - sample).square().mean())
            if error < least:
                least = error
                self.input_step.copy_(step)
                self.offset.copy_(offset)

    def input_code(self) -> tuple[InputCode, ...]:
        return StepsCode(self.input_bits, learned(self.input_step, 1.0), 0, self.offset), OnesCode()
