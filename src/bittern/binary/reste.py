# SPDX-License-Identifier: Apache-2.0
"""ReSTE: gradients of a power function that goes from identity towards sign (2308.06689)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bittern.binary._common import check_progress
from bittern.estimators import Power, binarize
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode
from bittern.start import HeNormal

INNER = 0.1
"""Up to here the power function is replaced by its secant from 0, where its own slope is infinite."""
LIMIT = 1.5
"""Beyond it the gradient is 0."""


class ReSTE(Quantizer):
    """Signs of weights and inputs, one scale for the layer, gradients of the power function sign(v) |v|^(1/o).

    Forward: W_q = sign(W), scale mean |W| over the layer; x_q = sign(x).
    Backward, for v = W and v = x:
        d sign(v)/dv := 0.1^(1/o - 1)          where |v| <= 0.1, the slope of the secant from 0
                        (1/o) |v|^(1/o - 1)    where 0.1 < |v| <= 1.5
                        0                      beyond
    The scale is differentiated too, d|W|/dW = sign(W), 0 at 0.
    Schedule: o = 1 + (1 - cos(pi t / 2)) (o_end - 1), from the clipped identity at t = 0 to o_end at t = 1:
    `set_progress`, kept in the buffer `o`.
    Start: He's, N(0, 2 / fan_in), as the authors' networks.

    o_end: 3 in all of the authors' runs.
    Differences: the authors' o is not part of the state, so a resumed run would lose it, and moves once in an epoch.
    sign(0) = +1 here, 0 there. Only their code was read, not their paper's text. The estimator has no kernel of its
    own; its gradient is torch's operations.
    Errors: ValueError unless 1 <= o_end < infinity.
    Source: arXiv 2308.06689.
    """

    o: Tensor
    start = HeNormal()

    def __init__(self, shape: LayerShape, *, o_end: float = 3.0) -> None:
        super().__init__(shape)
        if not 1.0 <= o_end < math.inf:
            raise ValueError(f"ReSTE: o_end must be at least 1 and finite; got {o_end}; 1 is the clipped identity")
        self.o_end = o_end
        self.register_buffer("o", torch.tensor(1.0))

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(binarize(w, Power(self.o, INNER, LIMIT)), w.abs().mean())

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, Power(self.o, INNER, LIMIT)))

    def input_code(self) -> InputCode:
        return SignCode()

    def set_progress(self, t: float) -> None:
        check_progress("ReSTE", t)
        self.o.fill_(1.0 + (1.0 - math.cos(math.pi * t / 2.0)) * (self.o_end - 1.0))
