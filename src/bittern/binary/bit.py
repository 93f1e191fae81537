# SPDX-License-Identifier: Apache-2.0
"""BiT: elastic binary inputs, signed or unsigned, with a learned scale (2205.13016)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from bittern.binary._common import check_choice
from bittern.binary._first_batch import FirstBatchQuantizer
from bittern.estimators import binarize, straight_through, without_scale
from bittern.quantizer import InputCode, LayerShape, LevelsCode, Quantized, SignCode

LEAST = 1e-5
"""No scale of inputs is smaller."""


class BiT(FirstBatchQuantizer):
    """Signs of centered weights with one scale for the layer; inputs a sign(x + b) or, unsigned, a {0, 1}.

    Forward: W_q = mean |W| sign(W - mean(W)), means of the layer. With v = x + b_c, b [in_channels] starting at 0:
        signed:   x_q = a sign(v)                               for what has both signs
        unsigned: x_q = a round_half_even(clip(v / a, 0, 1))    for what a ReLU or a softmax gives; NaN is 0
    Backward: dW = g, the gradient of the scaled weight (mean and scale held constant); dx = db_c = g 1{|v| <= a}
    (unsigned: 1{0 <= v <= a}); da = sum g sign(v) / sqrt(n) (unsigned: sum g (round(q) - q) / sqrt(n) inside,
    q = v / a, and g beyond 1), n the numbers of x: LSQ's gradient and its scale.
    Start: weights as the network's real ones; a on the first batch in training 2 mean |v|, unsigned 4 mean |v|.
    The latter is made for what a ReLU or a softmax gives: behind a Hardtanh no input would reach a / 2.

    Differences: sign(0) = +1 here, 0 in the authors' code. Their inputs of more bits have an offset that is the
    minimum of each batch, which is no constant that a file could hold; they are not offered.
    Errors: ValueError for other `inputs`.
    Source: arXiv 2205.13016; facebookresearch/bit transformer/utils_quant.py.
    """

    def __init__(self, shape: LayerShape, *, inputs: Literal["signed", "unsigned"] = "signed") -> None:
        super().__init__(shape)
        check_choice("BiT", "inputs", inputs, ("signed", "unsigned"))
        self.inputs = inputs
        self.shift = nn.Parameter(torch.zeros(shape.in_channels))
        """b [in_channels]."""
        self.scale = nn.Parameter(torch.tensor(1.0))
        """a, 0-dim."""

    def weight(self, w: Tensor) -> Quantized:
        alpha = w.detach().abs().mean()
        centered = w - w.detach().mean()
        return Quantized(binarize(centered, without_scale(torch.ones_like(alpha), alpha).expand_as(w)), alpha)

    def input(self, x: Tensor) -> Quantized:
        shifted = x + self.shape.input_view(self.shift)
        if self.starts("input") and x.numel():
            with torch.no_grad():
                self.scale.copy_((2.0 if self.inputs == "signed" else 4.0) * shifted.abs().mean())
        a = self._positive(straight_through(self.scale, self.scale, self._learning(x)))
        if self.inputs == "signed":
            inside = (shifted.detach().abs() <= a.detach()).to(x.dtype)
            return Quantized(binarize(shifted, inside / a.detach()), a)
        ratio = shifted / a
        inside = ((ratio.detach() >= 0.0) & (ratio.detach() <= 1.0)).to(x.dtype)
        return Quantized(straight_through(self._unsigned().values(x), ratio, inside), a)

    def _learning(self, x: Tensor) -> Tensor:
        """1 / sqrt(n), LSQ's scale of the gradient of a."""
        return torch.full((), max(1, x.numel()) ** -0.5, dtype=x.dtype, device=x.device)

    def _positive(self, a: Tensor) -> Tensor:
        return torch.where(a > LEAST, a, LEAST)

    def _unsigned(self) -> LevelsCode:
        low = -self.shape.input_view(self.shift.detach())
        return LevelsCode(1, low, self._positive(self.scale.detach()))

    def input_code(self) -> InputCode:
        if self.inputs == "unsigned":
            return self._unsigned()
        # x + b >= 0 in floating point exactly where x >= -b: a sum never rounds across or onto 0
        return SignCode(threshold=-self.shift.detach())
