# SPDX-License-Identifier: Apache-2.0
"""DSQ: signs that stand for a tanh of learned steepness and reach (1908.05033)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bittern import ops
from bittern.estimators import binarize, straight_through
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode

ALPHA = 0.2
"""First alpha, as a port of the method to torch has it (its authors published none)."""
LEAST, MOST = 0.01, 0.5
"""alpha is kept between these: at 0 the tanh is a sign, whose slope is infinite."""
LEAST_LIMIT = 1e-3
"""u is kept above it."""


class DSQ(Quantizer):
    """Signs of weights and inputs whose gradient is a tanh's, of learned steepness, up to a learned limit.

    Forward: W_q = sign(W), scale u_W, one for the layer, learned; x_q = sign(x).
    Backward: sign(v) counts as phi(v) = tanh(c ln(2 / alpha - 1) / 2) / (1 - alpha), c = clip(v / u, -1, 1), which is
    -1 and +1 at -u and u; phi is differentiated in v, alpha and u. For weights and for inputs alpha and u are learned,
    one each for the layer, starting at 0.2 and 1.
    After each step (`settle`) alpha is clipped to [0.01, 0.5] and u to at least 0.001.
    Start: as the network's real weights.

    This is DSQ of one bit, whose piecewise tanh has one piece.
    Differences: the paper has two limits, l and u; here l = -u, so that the two values are opposite. Its inputs are
    sign(x) u; here that factor, one for the layer, is left to the norm behind. The bounds of alpha and u are this
    library's. Only abstract, definition and ports of the method were read. It has no kernel of its own.
    Errors: none.
    Source: arXiv 1908.05033 (ICCV 2019).
    """

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        self.weight_alpha = nn.Parameter(torch.tensor(ALPHA))
        self.weight_limit = nn.Parameter(torch.tensor(1.0))
        self.input_alpha = nn.Parameter(torch.tensor(ALPHA))
        self.input_limit = nn.Parameter(torch.tensor(1.0))

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(self._sign(w, self.weight_alpha, self.weight_limit), self.weight_limit)

    def input(self, x: Tensor) -> Quantized:
        return Quantized(self._sign(x, self.input_alpha, self.input_limit))

    def input_code(self) -> InputCode:
        return SignCode()

    def settle(self, w: Tensor) -> None:
        for alpha, limit in ((self.weight_alpha, self.weight_limit), (self.input_alpha, self.input_limit)):
            alpha.clamp_(LEAST, MOST)
            limit.clamp_(min=LEAST_LIMIT)

    def _sign(self, v: Tensor, alpha: Tensor, limit: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and (v.requires_grad or self.training)):
            return binarize(v)
        # clipped before it is divided: an infinite v leaves the gradient of the limit finite
        c = torch.maximum(torch.minimum(v, limit), -limit) / limit
        soft = torch.tanh(c * (torch.log(2.0 / alpha - 1.0) / 2.0)) / (1.0 - alpha)
        return straight_through(ops.sign(v.detach()), soft)
