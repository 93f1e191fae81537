# SPDX-License-Identifier: Apache-2.0
"""Trained ternary quantization: a positive and a negative number, both learned, and real inputs (1612.01064)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bittern.codes import Code, Integers, PerTensor
from bittern.estimators import straight_through
from bittern.quant._real_inputs import RealInputs, check_share
from bittern.quantizer import LayerShape, Quantized


class TTQ(RealInputs):
    """Weights of three levels, +Wp, 0 and -Wn with two learned numbers a layer, and real inputs.

    Forward: D = threshold * max |W| of the layer; w_q = +Wp where W > D, -Wn where W < -D, else 0; x_q = x. As terms:
    (1{W > D}, Wp) + (-1{W < -D}, Wn), a bit each, so a layer is two products.
    Backward, with g the gradient of w_q: dWp = sum of g over W > D; dWn = -sum of g over W < -D; dW = g * Wp where
    W > D, g * Wn where W < -D, g elsewhere; D is held constant. dL/dx = dL/dx_q.
    Start: as the network's real weights; Wp = Wn = 1.

    Differences: the paper prints dWn without the sign that its -Wn makes; the authors' code has it, by autograd. There
    a weight of exactly D counts as +-1. Its `p_ternarize`, which keeps a given share of the weights, is not here.
    Errors: ValueError for a threshold outside [0, 1).
    Source: arXiv 1612.01064.
    """

    def __init__(self, shape: LayerShape, *, threshold: float = 0.05) -> None:
        super().__init__(shape)
        check_share("TTQ", "threshold", threshold)
        self.threshold = threshold
        self.positive = nn.Parameter(torch.ones(()))
        """Wp."""
        self.negative = nn.Parameter(torch.ones(()))
        """Wn."""

    def weight(self, w: Tensor) -> tuple[Quantized, Quantized]:
        real = w.detach()
        limit = self.threshold * real.abs().amax()
        above, below = (real > limit).to(w.dtype), (real < -limit).to(w.dtype)
        # What reaches the values is g * Wp, and g * Wn. Between the two, the first passes g on: g * Wp / Wp.
        between = torch.where((above + below) == 0, _inverse(self.positive), 0.0)
        positive = straight_through(above, w, above + between)
        negative = straight_through(-below, w, below)
        return Quantized(positive, self.positive), Quantized(negative, self.negative)

    def weight_code(self) -> tuple[Code, Code]:
        return Integers(0, 1, scale=PerTensor()), Integers(-1, 0, scale=PerTensor())


def _inverse(scale: Tensor) -> Tensor:
    """1 / scale; 0 where that is not finite, since nothing tells g from a product with 0."""
    inverse = scale.detach().reciprocal()
    return torch.where(inverse.isfinite(), inverse, 0.0)
