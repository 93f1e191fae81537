# SPDX-License-Identifier: Apache-2.0
"""OneBit: signs of weights between two learned vectors, and real inputs (2402.11295)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bittern.estimators import binarize
from bittern.quantizer import REAL_BITS, InputCode, LayerShape, Quantized, Quantizer, RealCode

SLOPE_AT_ZERO = 1.001
"""The authors' code has this in the place of 1, so that no weight has the slope 0."""


class OneBit(Quantizer):
    """Signs of weights, a learned factor g of each input channel and a learned factor h of each output channel.

    Forward: y = ((x * g) sign(W)) * h.
    Backward: d sign(W)/dW := 1.001 - tanh(W)^2; g, h and x by autograd.
    Start: as the network's real weights; g = h = 1.

    Differences: the authors' layer has a norm over its outputs behind h (nn.LayerNorm(elementwise_affine=False)), which
    is the network's here, and then the bias. They start a trained network from a factorization of rank one,
    |W| ~ h g^T, with latent weights of +-0.01. Convolutions are not in the paper: g is one number a channel.
    sign(0) = +1 here, 0 there.
    Errors: none of its own.
    Source: arXiv 2402.11295.
    """

    input_bits = REAL_BITS

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        self.gain = nn.Parameter(torch.ones(shape.in_channels))
        """g [in_channels]."""
        self.scale = nn.Parameter(torch.ones(shape.out_channels))
        """h [out_channels]."""

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(binarize(w, SLOPE_AT_ZERO - w.detach().tanh().square()), self.shape.weight_view(self.scale))

    def input(self, x: Tensor) -> Quantized:
        return Quantized(x * self.shape.input_view(self.gain))

    def input_code(self) -> InputCode:
        return RealCode(self.gain)
