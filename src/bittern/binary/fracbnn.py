# SPDX-License-Identifier: Apache-2.0
"""FracBNN: signs of weights, inputs of two bits about 0 (2012.12206)."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.estimators import Clip, binarize, straight_through
from bittern.quantizer import LevelsCode, Quantized, Quantizer
from bittern.start import HeNormal

CLIP = 1.3
"""Weights beyond get no gradient."""


class FracBNN(Quantizer):
    """Signs of weights without a scale, and inputs {-1, -1/3, 1/3, 1}.

    Forward: W_q = sign(W); x_q = 2/3 round_half_even(3 clip((x + 1) / 2, 0, 1)) - 1: odd integers with scale 1/3.
    Backward: dL/dW = dL/dW_q * 1{|W| <= 1.3}; dL/dx = dL/dx_q * 1{|x| < 1}. NaN is -1.
    Start: He's, N(0, 2 / fan_in).

    `bittern.nn.Thermometer` is the paper's encoding of images as signs. Its gating is left out: an output for which the
    high bit alone, 2/3 conv(sign(x), W_q), stays below a learned threshold keeps that, and the low bits of the others
    are multiplied in; here they are for all, which is the paper's network at a share of 100 %.
    Differences: sign(0) = +1 here, 0 in the authors' code, which computes round((x + 1) / (2/3)) of the clipped input.
    Source: arXiv 2012.12206; cornell-zhang/FracBNN utils/quantization.py.
    """

    start = HeNormal()
    input_bits = 2

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(binarize(w, Clip(limit=CLIP)))

    def input(self, x: Tensor) -> Quantized:
        code = self.input_code()
        derivative = code.top * (x.detach().abs() < 1.0).to(x.dtype)
        third = torch.full((), 1.0 / code.top, dtype=x.dtype, device=x.device)
        return Quantized(straight_through(code.values(x), x, derivative), third)

    def input_code(self) -> LevelsCode:
        # 0-dim numbers serve inputs on any device, and halving is exact on each
        low, width = torch.tensor([-1.0, 2.0], dtype=torch.float32, device="cpu")
        return LevelsCode(self.input_bits, low, width, signed=True)
