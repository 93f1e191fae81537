# SPDX-License-Identifier: Apache-2.0
"""SiMaN: weights whose bit says whether their magnitude is among the larger half (2102.07981)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bittern import ops
from bittern.binary._common import check_progress, check_spread_of_filter, filter_mean, filter_variance
from bittern.binary._samples import EPSILON, sample_sign
from bittern.estimators import straight_through
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode
from bittern.start import HeNormal

PERCENT = 5.0
"""Share of a layer's magnitudes that is clipped at either end at t = 0, in percent."""


class SiMaN(Quantizer):
    """The larger half of each filter's magnitudes becomes +1, the smaller half -1; a learned scale per filter.

    Forward, per filter of n weights, with W0 = W - mean(W): W_q = +1 where |W0| is at least the floor(n/2)-th largest
    |W0|, else -1: the signs of the weights play no part. Scale alpha [out], learned. x_q = sign(x).
    Backward: with W2 = W0 / sqrt(var(W0) + 1e-5) and the unbiased variance, dL/d|W2| = dL/dW_q; magnitude (d|v|/dv = 1
    at 0), centering and variance are differentiated. Inputs as ReCU's: in training, with x1 = x / sqrt(var(x) + 1e-5)
    over each sample, dL/dx1 = dL/dx_q * max(0, 2 - 2|x1|), and x1 is differentiated; in eval mode x1 = x.
    After each step: W <- sign(W0) clip(|W0|, L, H), L and H the p-th and (100 - p)-th percentile of |W0| over the
    layer, interpolated.
    Schedule: p = 5 (1 - t): `set_progress`, kept in the buffer `percent`; without it p stays at 5.
    Start: He's, N(0, 2 / fan_in), as the authors' ResNet-20; alpha 1 / (2 sqrt(fan_in)), which is mean |W| where torch
    draws W, as the authors' code has it.

    Differences: the paper states its bits as {0, 1}; the authors' code computes with {-1, +1}, as here. It subtracts
    its mean from each sample before the sign, a threshold that depends on the sample, which no packed input has; here
    the norm in front sees to it. It clips in each forward pass instead of after each step, a weight that is 0 too
    stays 0 there, and of equal magnitudes on the border it takes some, or none, where all become +1 here. Only code
    and abstract were read.
    Errors: ValueError for filters of one weight, or samples of one value.
    Source: arXiv 2102.07981 (TPAMI 2023).
    """

    percent: Tensor
    start = HeNormal()

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        check_spread_of_filter("SiMaN", shape)
        self.alpha = nn.Parameter(torch.full((shape.out_channels,), shape.fan_in**-0.5 / 2.0))
        """Learned scale [out_channels]."""
        self.register_buffer("percent", torch.tensor(PERCENT))

    def weight(self, w: Tensor) -> Quantized:
        centered = w - filter_mean(w)
        standard = centered * torch.rsqrt(filter_variance(centered) + EPSILON)
        size = centered.detach().abs().flatten(1)
        n = size.shape[1]
        border = size.kthvalue(n - n // 2 + 1, dim=1, keepdim=True).values
        values = torch.where(size >= border, 1.0, -1.0).to(w.dtype).view_as(w)
        return Quantized(
            straight_through(values, standard, ops.sign(standard.detach())), self.shape.weight_view(self.alpha)
        )

    def input(self, x: Tensor) -> Quantized:
        return Quantized(sample_sign("SiMaN", x, training=self.training))

    def input_code(self) -> InputCode:
        return SignCode()

    def settle(self, w: Tensor) -> None:
        centered = w - filter_mean(w)
        percent = float(self.percent)
        if percent > 0.0:
            size = centered.abs()
            low, high = (_percentile(size.flatten(), p) for p in (percent, 100.0 - percent))
            centered = ops.sign(centered) * size.clamp(low, high)
        w.copy_(centered)

    def set_progress(self, t: float) -> None:
        check_progress("SiMaN", t)
        self.percent.fill_(PERCENT * (1.0 - t))


def _percentile(numbers: Tensor, percent: float) -> Tensor:
    """Interpolated between neighbours, as numpy.percentile; torch.quantile takes 2^24 numbers at most, and sorts."""
    place = percent / 100.0 * (numbers.numel() - 1)
    below = math.floor(place)
    first = numbers.kthvalue(below + 1).values
    if place == below:
        return first
    return torch.lerp(first, numbers.kthvalue(below + 2).values, place - below)
