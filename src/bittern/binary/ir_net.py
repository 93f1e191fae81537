# SPDX-License-Identifier: Apache-2.0
"""IR-Net: balanced, standardized weights and a gradient that decays from identity to sign (1909.10788)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bittern import ops
from bittern.binary._common import (
    check_progress,
    check_spread_of_filter,
    filter_mean,
    filter_variance,
    is_constant,
    standard_gradient,
    standardized,
)
from bittern.estimators import ErrorDecay, binarize, follows_formula, in_order, lies_channels_last, out_of_order
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode
from bittern.start import HeNormal


class IRNet(Quantizer):
    """Weights centered and standardized per filter (Libra-PB), power-of-two scales, error decay estimator.

    Forward, per filter: W^ = (W - mean(W)) / std(W) with the unbiased std; W_q = sign(W^),
    scale s = 2^round_half_even(log2 mean |W^|), held constant. x_q = sign(x).
    A filter whose weights are all equal has no std: W^ = 0 and s = 1, so W_q = +1 and it can still learn.
    Backward: d sign(v)/dv := k t (1 - tanh(t v)^2) for v = W^ and v = x; centering and std are differentiated.
    Schedule: log10 t runs linearly from log10 t_min to log10 t_max and k = max(1/t, 1): `set_progress`, kept in the
    buffers `t` and `k`; without it t stays at t_min, close to the identity for t_min << 1.

    Start: He's, N(0, 2 / fan_in), as the authors' ResNets; `models.vgg_small` takes fan_out, as theirs does. The size
    of standardized weights changes no output, but a step counts relative to it: so this and the decay of latent
    weights (1e-4 in the authors' code) set how fast signs flip.

    t_min, t_max: 1e-3 and 10 are the authors' values for ResNet-20; for VGG-small they use t_min=1e-1.
    Differences: in the authors' code t and k are not part of the state, so a resumed run would lose them, and a filter
    of equal weights divides by 0. sign(0) = +1 here, 0 there.
    Errors: ValueError for filters of one weight, or unless 0 < t_min <= t_max.
    Source: arXiv 1909.10788.
    """

    t: Tensor
    k: Tensor
    start = HeNormal()

    def __init__(self, shape: LayerShape, *, t_min: float = 1e-3, t_max: float = 10.0) -> None:
        super().__init__(shape)
        check_spread_of_filter("IRNet", shape)
        if not 0.0 < t_min <= t_max < math.inf:
            raise ValueError(f"IRNet: needs 0 < t_min <= t_max; got t_min={t_min}, t_max={t_max}")
        self.t_min = t_min
        self.t_max = t_max
        self.register_buffer("t", torch.tensor(t_min))
        self.register_buffer("k", torch.tensor(max(1.0 / t_min, 1.0)))

    def weight(self, w: Tensor) -> Quantized:
        plain = w.detach()
        constant = is_constant(plain)
        mean = filter_mean(plain)
        centered = plain - mean
        divisor = torch.where(constant, math.inf, filter_variance(centered).sqrt_())
        standard = centered / divisor
        size = torch.where(constant, 1.0, filter_mean(standard.abs()))
        scale = torch.exp2(torch.round(torch.log2(size)))
        if follows_formula(w):
            return Quantized(binarize(standardized(w, constant), ErrorDecay(self.t, self.k)), scale)
        kept = w, mean, divisor, self.t.clone(), self.k.clone()
        values: Tensor = _StandardSign.apply(standard, *kept)  # type: ignore[no-untyped-call]
        return Quantized(values, scale)

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, ErrorDecay(self.t, self.k)))

    def input_code(self) -> InputCode:
        return SignCode()

    def set_progress(self, t: float) -> None:
        check_progress("IRNet", t)
        low, high = math.log10(self.t_min), math.log10(self.t_max)
        now = 10.0 ** (low + (high - low) * t)
        self.t.fill_(now)
        self.k.fill_(max(1.0 / now, 1.0))


class _StandardSign(torch.autograd.Function):
    """sign of a standardized weight, with one pass over it backward; kept are the weight and numbers of filters.

    divisor: std, or infinity for a filter of equal weights, which makes them 0.
    """

    @staticmethod
    def forward(ctx: Any, standard: Tensor, w: Tensor, mean: Tensor, divisor: Tensor, t: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(w, mean, divisor, t, k)
        return ops.sign.direct(standard)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        w, mean, divisor, t, k = ctx.saved_tensors
        if torch.is_grad_enabled():  # the result may be differentiated again
            values = binarize(standardized(w, divisor.isinf()), ErrorDecay(t, k))
            (to_w,) = torch.autograd.grad(values, w, grads[0], create_graph=True)
            return None, to_w, None, None, None, None
        last = lies_channels_last(w)
        y = (in_order(w, last) - mean).div_(divisor)
        d = ops.error_decay_gradient.direct(in_order(grads[0], last), y, t, k)
        to_w = standard_gradient(d, y, torch.where(divisor.isinf(), 1.0, divisor.reciprocal()))
        return None, out_of_order(to_w, last), None, None, None, None
