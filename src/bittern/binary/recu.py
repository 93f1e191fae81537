# SPDX-License-Identifier: Apache-2.0
"""ReCU: revived dead weights by clamping standardized weights to a rising quantile (2103.12369)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from bittern import ops
from bittern.binary._common import (
    check_progress,
    check_spread_of_filter,
    filter_mean,
    filter_variance,
    standard_gradient,
)
from bittern.binary._samples import EPSILON, sample_sign
from bittern.estimators import binarize, follows_formula
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode
from bittern.start import HeNormal

TAU_FIRST = 0.85
TAU_LAST = 0.99
STD = 2.0 * math.sqrt(2.0)
"""Standard deviation given to each filter: that of a Laplace distribution of scale b = 2."""


class ReCU(Quantizer):
    """Weights centered, standardized and clamped to a quantile before their sign; a learned scale per filter.

    Forward, per filter: W0 = W - mean(W), W1 = W0 * 2 sqrt(2) / sqrt(var(W0) + 1e-5) with the unbiased variance;
    per layer: b = mean |W1|, Q = -b ln(2 - 2 tau), the upper tau-quantile of a Laplace distribution of scale b;
    W_q = sign(clamp(W1, -Q, Q)), scale alpha [out], learned, starting uniform in (0, 1). x_q = sign(x).
    Backward: the sign of the weight counts as the identity, Q is held constant, everything else is differentiated,
    so weights beyond the quantile take part only through mean and variance. Inputs: in training, with
    x1 = x / sqrt(var(x) + 1e-5) over each sample, dL/dx1 = dL/dx_q * max(0, 2 - 2|x1|), and x1 is differentiated;
    in eval mode x1 = x.
    Schedule: tau(t) = A exp(t) + B from 0.85 at t = 0 to 0.99 at t = 1: `set_progress`, kept in the buffer `tau`.

    Start: He's, N(0, 2 / fan_in), as the authors' ResNets; `models.vgg_small` takes fan_out, as theirs does. The size
    of standardized weights changes no output, but a step counts relative to it: so this and the decay of latent
    weights (5e-4 in the authors' code) set how fast signs flip.
    Differences: without `set_progress` tau stays at 0.85; the authors' buffer starts at 1, where nothing is clamped.
    Their Q passes through `.item()`, which stops at every layer; here it stays a tensor.
    sign(0) = +1 here, 0 there.
    Errors: ValueError for filters of one weight, or samples of one value, which have no variance.
    Source: arXiv 2103.12369.
    """

    tau: Tensor
    start = HeNormal()

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        check_spread_of_filter("ReCU", shape)
        self.alpha = nn.Parameter(torch.rand(shape.out_channels))
        """Learned scale [out_channels]."""
        self.register_buffer("tau", torch.tensor(TAU_FIRST))

    def weight(self, w: Tensor) -> Quantized:
        mean, factor = _statistics(w.detach())
        standard = (w.detach() - mean) * factor
        quantile = (-standard.abs().mean() * torch.log(2.0 - 2.0 * self.tau)).to(w.dtype)
        if follows_formula(w):
            values = binarize(_clamped(w, quantile))
        else:
            clamped = torch.clamp(standard, -quantile, quantile)
            values = _ClampedSign.apply(clamped, w, mean, factor, quantile)  # type: ignore[no-untyped-call]
        return Quantized(values, self.shape.weight_view(self.alpha))

    def input(self, x: Tensor) -> Quantized:
        return Quantized(sample_sign("ReCU", x, training=self.training))

    def input_code(self) -> InputCode:
        return SignCode()

    def set_progress(self, t: float) -> None:
        check_progress("ReCU", t)
        a = (TAU_LAST - TAU_FIRST) / (math.e - 1.0)
        self.tau.fill_(a * math.exp(t) + TAU_FIRST - a)


def _statistics(w: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each filter, and what its centered weights are multiplied by."""
    mean = filter_mean(w)
    return mean, STD / torch.sqrt(filter_variance(w - mean) + EPSILON)


def _clamped(w: Tensor, quantile: Tensor) -> Tensor:
    """The standardized weight within the quantile, in operations that autograd follows."""
    mean, factor = _statistics(w)
    return torch.clamp((w - mean) * factor, -quantile, quantile)


class _ClampedSign(torch.autograd.Function):
    """sign of `_clamped`, with few passes backward; kept are the weight and numbers of filters."""

    @staticmethod
    def forward(ctx: Any, clamped: Tensor, w: Tensor, mean: Tensor, factor: Tensor, quantile: Tensor) -> Tensor:
        ctx.save_for_backward(w, mean, factor, quantile)
        return ops.sign.direct(clamped)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        w, mean, factor, quantile = ctx.saved_tensors
        if torch.is_grad_enabled():  # the result may be differentiated again
            (to_w,) = torch.autograd.grad(binarize(_clamped(w, quantile)), w, grads[0], create_graph=True)
            return None, to_w, None, None, None
        y = (w - mean).mul_(factor)
        d = (y.abs() <= quantile).to(w.dtype).mul_(grads[0])
        return None, standard_gradient(d, y, factor, STD), None, None, None
