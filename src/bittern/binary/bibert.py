# SPDX-License-Identifier: Apache-2.0
"""BiBERT: signs of weights whose mean was taken off, for transformers (2203.06390)."""

from __future__ import annotations

from torch import Tensor

from bittern.estimators import Clip, binarize, without_scale
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode


class BiBERT(Quantizer):
    """Signs of weights that are centered per output, times their mean size; signs of inputs.

    Forward: W_q = alpha sign(W - mean(W)), alpha = mean |W|, both means of each output; x_q = sign(x).
    Backward: dW = m - mean(m), m = g 1{|W - mean(W)| <= 1}, g the gradient of the scaled weight (alpha held constant,
    the mean not); dx = g 1{|x| <= 1}.
    The attention that goes with it is `bittern.binary.attention.BiAttention`.

    Differences: sign(0) = +1 here, 0 in the authors' code. Their distillation compares products of queries, of keys
    and of values with the teacher's (direction matching); that is a loss, not part of the method.
    Source: arXiv 2203.06390; htqin/BiBERT transformer/utils_quant.py.
    """

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        self._dims = tuple(range(1, len(shape.weight)))

    def weight(self, w: Tensor) -> Quantized:
        alpha = w.detach().abs().mean(self._dims, keepdim=True)
        centered = w - w.mean(self._dims, keepdim=True)
        inside = (centered.detach().abs() <= 1.0).to(w.dtype)
        return Quantized(binarize(centered, without_scale(inside, alpha)), alpha)

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, Clip(1.0)))

    def input_code(self) -> InputCode:
        return SignCode()
