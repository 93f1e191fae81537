# SPDX-License-Identifier: Apache-2.0
"""BNext: signs with a learned threshold per channel and a wide clip (2211.12933)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bittern.binary._common import check_limit
from bittern.estimators import Clip, binarize
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode
from bittern.start import Normal

LIMIT = 1.5
"""Of the gradient of inputs and of latent weights, in the authors' code."""


class BNext(Quantizer):
    """Signs of weights, no scale, and signs of inputs with a learned threshold per channel.

    Forward: W_q = sign(W); x_q = sign(x + b_c), b [in_channels] starting at 0.
    Backward: dL/dW = dL/dW_q (identity; the latent weight is clipped to [-limit, limit] after each step);
    dL/dx = dL/db (summed over all but the channels) = dL/dx_q * 1{|x + b| <= limit}.
    Start: N(0, 0.001^2), as the authors' code.

    The blocks, gates and norms of the paper are `bittern.models.bnext_tiny` and its larger sizes.
    limit: 1.5 in the authors' code. With b held at 0 this is BNN(limit=1.5, clip_latent=1.5).
    Differences: the authors' code clips latent weights in each forward pass of the training instead of after each step,
    and makes signs of weights gradually, clip(W / T, -1, 1) with T = 0.9^epoch; here they are signs from the start.
    sign(0) = +1 here, 0 there. Only code was read.
    Errors: ValueError unless 0 < limit < infinity.
    Source: arXiv 2211.12933.
    """

    start = Normal(0.001)

    def __init__(self, shape: LayerShape, *, limit: float = LIMIT) -> None:
        super().__init__(shape)
        check_limit("BNext", "limit", limit)
        self.limit = limit
        self.clip_latent = limit
        self.shift = nn.Parameter(torch.zeros(shape.in_channels))
        """b [in_channels]: the input becomes +1 where x >= -b."""

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(binarize(w))

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x + self.shape.input_view(self.shift), Clip(self.limit)))

    def input_code(self) -> InputCode:
        # x + b >= 0 in floating point exactly where x >= -b: a sum never rounds across or onto 0
        return SignCode(threshold=-self.shift.detach())
