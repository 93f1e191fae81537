# SPDX-License-Identifier: Apache-2.0
"""Binary-weight networks: XNOR-Net's weights with real inputs (1603.05279)."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.estimators import Plateaus, binarize, without_scale
from bittern.quant._real_inputs import RealInputs, over_filter
from bittern.quantizer import Quantized
from bittern.start import HeNormal


class BWN(RealInputs):
    """Signs of weights with the mean |W| of each filter as scale, and real inputs.

    Forward: w_q = a sign(W), a = mean |W| of each filter of n weights; x_q = x.
    Backward, with g the gradient of w_q: dW_i = g_i * (1 / n + a * 1{|W_i| <= 1}); a filter of zeros has a = 0, from
    which g cannot be recovered: its gradient is 0. dL/dx = dL/dx_q.
    Start: He's, N(0, 2 / fan_in), as the authors' code.

    Differences: the authors' code centers and clips weights and has other factors; `bittern.binary.XNORNet` has those
    as options, on binary inputs. sign(0) = +1 here, 0 there.
    Errors: none of its own.
    Source: arXiv 1603.05279.
    """

    start = HeNormal()

    def weight(self, w: Tensor) -> Quantized:
        scale = w.detach().abs().mean(over_filter(w), keepdim=True)
        inside, outside = (1.0 / self.shape.fan_in + a for a in (scale, torch.zeros_like(scale)))
        slopes = without_scale(inside, scale), without_scale(outside, scale)
        return Quantized(binarize(w, Plateaus(*slopes, False)), scale)
