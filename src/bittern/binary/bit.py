# SPDX-License-Identifier: Apache-2.0
"""BiT: elastic binary inputs, signed or unsigned, with a learned scale (2205.13016)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from bittern._first_batch import FirstBatchQuantizer
from bittern.binary._common import check_bits, check_choice
from bittern.binary._elastic import elastic_levels, elastic_signs, learned, positive, start_of
from bittern.estimators import binarize, without_scale
from bittern.quantizer import InputCode, LayerShape, LevelsCode, OnesCode, Quantized, SignCode

MOST_BITS = 8
"""Inputs of up to 8 bits are what a packed layer can hold."""


class BiT(FirstBatchQuantizer):
    """Signs of centered weights with one scale for the layer; inputs a sign(x + b) or, unsigned, a {0, 1}.

    Forward: W_q = mean |W| sign(W - mean(W)), means of the layer. With v = x + b_c, b [in_channels] starting at 0:
        signed:   x_q = a sign(v)                               for what has both signs
        unsigned: x_q = a round_half_even(clip(v / a, 0, 1))    for what a ReLU or a softmax gives; NaN is 0
    With k = `input_bits` > 1: x_q = a round_half_even(clip(v / a, l, h)), signed l = -2^(k-1) and h = 2^(k-1) - 1,
    unsigned l = 0 and h = 2^k - 1; NaN is l.
    Backward: dW = g, the gradient of the scaled weight (mean and scale held constant); dx = db_c = g 1{|v| <= a}
    (unsigned: 1{0 <= v <= a}; k > 1: 1{l a <= v <= h a}); da = sum g sign(v) / sqrt(n) (unsigned, and k > 1:
    sum g (round(q) - q) / sqrt(n h) inside, q = v / a, g l below and g h beyond), n the numbers of x: LSQ's gradient
    and its scale.
    The attention that goes with it is `bittern.binary.attention.ElasticAttention`.
    Start: weights as the network's real ones; a on the first batch in training 2 mean |v|, unsigned 4 mean |v|, over
    sqrt(h). The latter is made for what a ReLU or a softmax gives: behind a Hardtanh no input would reach a / 2.

    input_bits: more than 1 in the first of the paper's steps, `bittern.recipes.bit_stages`.
    Differences: sign(0) = +1 here, 0 in the authors' code. Their unsigned inputs of more bits have an offset that is
    the minimum of each batch, which is no constant that a file could hold; here it is 0.
    Errors: ValueError for other `inputs`, and for bits outside 1 ... 8.
    Source: arXiv 2205.13016; facebookresearch/bit transformer/utils_quant.py.
    """

    def __init__(
        self, shape: LayerShape, *, inputs: Literal["signed", "unsigned"] = "signed", input_bits: int = 1
    ) -> None:
        super().__init__(shape)
        check_choice("BiT", "inputs", inputs, ("signed", "unsigned"))
        check_bits("BiT", "input_bits", input_bits, MOST_BITS)
        self.inputs: Literal["signed", "unsigned"] = inputs
        self.input_bits = input_bits
        self.shift = nn.Parameter(torch.zeros(shape.in_channels))
        """b [in_channels]."""
        self.scale = nn.Parameter(torch.tensor(1.0))
        """a, 0-dim."""

    @property
    def _range(self) -> tuple[int, int]:
        """(l, h), the least and the largest multiple of a; of signs (-1, 1)."""
        if self.inputs == "unsigned":
            return 0, 2**self.input_bits - 1
        return (-1, 1) if self.input_bits == 1 else (-(2 ** (self.input_bits - 1)), 2 ** (self.input_bits - 1) - 1)

    def weight(self, w: Tensor) -> Quantized:
        alpha = w.detach().abs().mean()
        centered = w - w.detach().mean()
        return Quantized(binarize(centered, without_scale(torch.ones_like(alpha), alpha).expand_as(w)), alpha)

    def input(self, x: Tensor) -> Quantized | tuple[Quantized, ...]:
        shifted = x + self.shape.input_view(self.shift)
        low, high = self._range
        if self.starts("input") and x.numel():
            with torch.no_grad():
                self.scale.copy_(start_of(shifted, self.inputs, high))
        a = learned(self.scale, x, high)
        if (low, high) == (-1, 1):
            return elastic_signs(shifted, a)
        levels = elastic_levels(shifted, a, self._levels().values(x), low, high)
        return levels if low == 0 else (levels, Quantized(torch.ones_like(x), a * low))

    def _levels(self) -> LevelsCode:
        """Levels from l a - b to h a - b, which are a apart."""
        low, high = self._range
        a = positive(self.scale.detach())
        return LevelsCode(self.input_bits, low * a - self.shape.input_view(self.shift.detach()), (high - low) * a)

    def input_code(self) -> InputCode | tuple[InputCode, ...]:
        low, high = self._range
        if (low, high) == (-1, 1):
            # x + b >= 0 in floating point exactly where x >= -b: a sum never rounds across or onto 0
            return SignCode(threshold=-self.shift.detach())
        return self._levels() if low == 0 else (self._levels(), OnesCode())


def use_input_bits(model: nn.Module, bits: int) -> nn.Module:
    """Give the inputs of every `BiT` layer of `model` so many bits, in place; returns `model`, of the same state.

    Raises: ValueError where there is none, and for bits outside 1 ... 8.
    """
    found = [module for module in model.modules() if isinstance(module, BiT)]
    if not found:
        raise ValueError("use_input_bits: the model has no layer of BiT; give it some, or leave this out")
    for method in found:
        check_bits("BiT", "input_bits", bits, MOST_BITS)
        method.input_bits = bits
    return model
