# SPDX-License-Identifier: Apache-2.0
"""ReActNet: signs with a learned threshold per channel (2003.03488)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bittern.binary._common import filter_mean_abs
from bittern.estimators import Plateaus, binarize, shifted_sign, without_scale
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode


class ReActNet(Quantizer):
    """RSign inputs, whose threshold is learned per channel, and signs of weights with a scale alpha per filter.

    Forward: x_q = sign(x + b_c), b [in_channels] starting at 0; W_q = sign(W), alpha = mean |W| of each filter.
    Backward: dL/dx = dL/db (summed over all but the channels) = dL/dx_q * max(0, 2 - 2|x + b|); with g the gradient
    of the scaled weight and alpha held constant, dW = g * 1{|W| <= 1} (a filter of zeros, alpha = 0, gets 0).

    RPReLU, the other half of the paper, belongs to the model: `bittern.nn.RPReLU`.
    Start: as the network's real weights; in the paper those of its first stage (`train_two_stage`), which are torch's.
    Differences: the paper writes the threshold as alpha_c = -b_c. sign(0) = +1 here, 0 in the authors' code.
    Source: arXiv 2003.03488.
    """

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        self.shift = nn.Parameter(torch.zeros(shape.in_channels))
        """b [in_channels]: the input becomes +1 where x >= -b."""

    def weight(self, w: Tensor) -> Quantized:
        alpha = filter_mean_abs(w)
        return Quantized(binarize(w, Plateaus(without_scale(torch.ones_like(alpha), alpha))), alpha)

    def input(self, x: Tensor) -> Quantized:
        return Quantized(shifted_sign(x, self.shift))

    def input_code(self) -> InputCode:
        # x + b >= 0 in floating point exactly where x >= -b: a sum never rounds across or onto 0
        return SignCode(threshold=-self.shift.detach())
