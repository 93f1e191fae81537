# SPDX-License-Identifier: Apache-2.0
"""BiT: elastic binary inputs, signed or unsigned, with a learned scale (2205.13016)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from bittern.binary._common import check_choice
from bittern.binary._elastic import elastic_bits, elastic_signs, learned, positive, start_of
from bittern.binary._first_batch import FirstBatchQuantizer
from bittern.estimators import binarize, without_scale
from bittern.quantizer import InputCode, LayerShape, LevelsCode, Quantized, SignCode


class BiT(FirstBatchQuantizer):
    """Signs of centered weights with one scale for the layer; inputs a sign(x + b) or, unsigned, a {0, 1}.

    Forward: W_q = mean |W| sign(W - mean(W)), means of the layer. With v = x + b_c, b [in_channels] starting at 0:
        signed:   x_q = a sign(v)                               for what has both signs
        unsigned: x_q = a round_half_even(clip(v / a, 0, 1))    for what a ReLU or a softmax gives; NaN is 0
    Backward: dW = g, the gradient of the scaled weight (mean and scale held constant); dx = db_c = g 1{|v| <= a}
    (unsigned: 1{0 <= v <= a}); da = sum g sign(v) / sqrt(n) (unsigned: sum g (round(q) - q) / sqrt(n) inside,
    q = v / a, and g beyond 1), n the numbers of x: LSQ's gradient and its scale.
    The attention that goes with it is `bittern.binary.attention.ElasticAttention`.
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
        self.inputs: Literal["signed", "unsigned"] = inputs
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
                self.scale.copy_(start_of(shifted, self.inputs))
        a = learned(self.scale, x)
        if self.inputs == "signed":
            return elastic_signs(shifted, a)
        return elastic_bits(shifted, a, self._unsigned().values(x))

    def _unsigned(self) -> LevelsCode:
        low = -self.shape.input_view(self.shift.detach())
        return LevelsCode(1, low, positive(self.scale.detach()))

    def input_code(self) -> InputCode:
        if self.inputs == "unsigned":
            return self._unsigned()
        # x + b >= 0 in floating point exactly where x >= -b: a sum never rounds across or onto 0
        return SignCode(threshold=-self.shift.detach())
