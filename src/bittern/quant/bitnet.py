# SPDX-License-Identifier: Apache-2.0
"""BitNet b1.58: ternary weights with one scale, int8 inputs with a scale of each token (2402.17764)."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.codes import Code, PerTensor, Ternary
from bittern.estimators import straight_through, without_scale
from bittern.input_codes import ROW_TOP
from bittern.quantizer import Quantized, Quantizer, RowCode

LEAST = 1e-5
"""No scale of weights is smaller."""


class BitNet(Quantizer):
    """Weights {-1, 0, +1} times the mean |W| of the layer, inputs -128 ... 127 times a 127th of the largest of a row.

    Forward: m = max(mean |W|, 1e-5) over the layer, w_q = m clip(round_half_even(W / m), -1, 1). With c the largest
    |x| of a row of x, at least 1e-5: x_q = (c / 127) clip(round_half_even(x * (127 / c)), -128, 127).
    Backward: the gradients of w_q and x_q reach W and x unchanged, with m and c held constant.
    Start: as the network's real weights.

    For linear layers: a row is a token. The norm in front of each layer, the squared ReLU and the absence of biases
    belong to the model. Products of int8 inputs and ternary weights are whole numbers, which float32 training adds
    exactly up to 2^24, here up to 131,072 features; packed up to 32,896, for a file's planes reach twice 255.
    Differences: the code multiplies W by 1 / m, and divides by 127 / c where c / 127 is multiplied here; a quotient may
    round otherwise at a tie.
    Errors: ValueError in a convolution, which has no rows.
    Source: arXiv 2402.17764; microsoft/BitNet gpu/model.py, gpu/convert_checkpoint.py.
    """

    input_bits = 8

    def weight(self, w: Tensor) -> Quantized:
        scale = w.detach().abs().mean().clamp(min=LEAST)
        values = torch.round(w.detach() / scale).clamp(-1.0, 1.0) + 0.0  # + 0.0 makes one 0 of both
        return Quantized(straight_through(values, w, without_scale(torch.ones_like(scale), scale)), scale)

    def weight_code(self) -> Code:
        return Ternary(PerTensor())

    def input(self, x: Tensor) -> Quantized:
        code = RowCode()
        return Quantized(straight_through(code.values(x), x, ROW_TOP / code.largest(x)), code.scale(x))

    def input_code(self) -> RowCode:
        return RowCode()
