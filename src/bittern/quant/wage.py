# SPDX-License-Identifier: Apache-2.0
"""WAGE: weights, activations, gradients and errors on grids of integers (1802.04680)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bittern._options import check_choice
from bittern.codes import Code, Integers, PerTensor, Ternary
from bittern.estimators import quantized_error, straight_through
from bittern.quantizer import LayerShape, Quantized, Quantizer, WholeCode
from bittern.start import WideUniform

BETA = 1.5
"""How many steps of the weights' grid the start reaches at least."""
REAL_ERROR_BITS = 32
"""`error_bits` that stands for errors left alone."""


class WAGE(Quantizer):
    """k-bit weights and inputs with steps that are powers of two, and errors of a few bits in training.

    With s(k) = 2^(1 - k), Q(x, k) = s(k) round_half_even(x / s(k)) clipped to +-(1 - s(k)), Shift(x) = 2^round(log2 x):
        weights  Q(W, weight_bits) / alpha; of 2 bits {-1/2, 0, 1/2}, a ternary grid. alpha = max(1, Shift(beta s(k) /
                 sqrt(3 / n))), beta = 1.5, with the n weights of one output: a power of two, fixed by the layer's shape
        inputs   Q(x, input_bits): {-127, ..., 127} / 128 of 8 bits; NaN is 0
        errors   in training, the gradient e of a layer's input, times 1{|x| <= 1 - s(k)}, becomes Q(e / Shift(max |e|),
                 error_bits): its size is thrown away; zeros stay zeros. `error_bits` = 32 leaves e alone
    Backward: rounding and the clipping of weights count as the identity, and alpha as 1.
    Start: U(-L, L), L = max(sqrt(3 / n), beta s(weight_bits)); a converted network keeps its weights, for which alpha
    was not made.

    The update is `bittern.optim.IntegerSGD`'s: it shifts the gradient likewise, rounds the step stochastically and
    keeps weights on the grid s(8). `train.SumOfSquares(error_bits=8)` is the loss, which rounds the error of the last
    layer's output; `models.vgg7` the network, which has neither norms nor biases.
    Differences: the paper divides the output by alpha, the code the weight; both are here the scale of the product, and
    gradients differ by powers of two, which the shifts of errors and updates remove. The code leaves alpha out below
    1.8, so where it is 1. A tensor of zeros has Shift(0) = 0 and becomes NaN in the code. The code rounds errors
    behind a layer's activation, which is the next layer's input.
    Errors: ValueError for bits outside 2 ... 8 (errors: 2 ... 15, or 32).
    Source: arXiv 1802.04680, whose text was not read; boluoweifenda/WAGE source/Quantize.py, source/myInitializer.py,
    source/NN.py.
    """

    def __init__(self, shape: LayerShape, *, weight_bits: int = 2, input_bits: int = 8, error_bits: int = 8) -> None:
        super().__init__(shape)
        check_choice("WAGE", "weight_bits", weight_bits, range(2, 9))
        check_choice("WAGE", "input_bits", input_bits, range(2, 9))
        check_choice("WAGE", "error_bits", error_bits, (*range(2, 16), REAL_ERROR_BITS))
        self.input_bits, self.error_bits = input_bits, error_bits
        self.follows_loss_scale = error_bits == REAL_ERROR_BITS
        self.steps = 2.0 ** (weight_bits - 1)
        """1 / s(weight_bits)."""
        self.start = WideUniform(BETA / self.steps)
        wide = BETA / self.steps * math.sqrt(max(shape.fan_in, 1) / 3.0)
        self.alpha = max(1.0, 2.0 ** round(math.log2(wide)))

    def weight(self, w: Tensor) -> Quantized:
        top = self.steps - 1.0
        values = torch.round(w.detach() * self.steps).clamp(-top, top) + 0.0  # + 0.0 makes one 0 of both
        factor = self.steps * self.alpha
        real = straight_through(values, w, torch.full((), factor, dtype=w.dtype, device=w.device))
        return Quantized(real, torch.full((), 1.0 / factor, dtype=w.dtype, device=w.device))

    def weight_code(self) -> Code:
        top = int(self.steps) - 1
        return Ternary(PerTensor()) if top == 1 else Integers(-top, top, scale=PerTensor())

    def input(self, x: Tensor) -> Quantized:
        if self.training and self.error_bits != REAL_ERROR_BITS:
            x = quantized_error(x, self.error_bits)
        steps = 2.0 ** (self.input_bits - 1)
        inside = (x.detach().abs() <= 1.0 - 1.0 / steps).to(x.dtype)
        values = straight_through(self.input_code().values(x), x, inside * steps)
        return Quantized(values, torch.full((), 1.0 / steps, dtype=x.dtype, device=x.device))

    def input_code(self) -> WholeCode:
        top = 2 ** (self.input_bits - 1) - 1
        return WholeCode(-top, top, 2.0 ** (1 - self.input_bits))
