# SPDX-License-Identifier: Apache-2.0
"""IR-Net: balanced, standardized weights and a gradient that decays from identity to sign (1909.10788)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bittern.binary._common import check_progress, check_spread_of_filter, filter_mean
from bittern.estimators import ErrorDecay, binarize
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
        over = tuple(range(1, w.ndim))
        # compared, not computed: the std of equal weights may round to something that is not 0
        constant = w.detach().amax(dim=over, keepdim=True) == w.detach().amin(dim=over, keepdim=True)
        centered = w - filter_mean(w)
        # so may their centered values: subtracting them from themselves gives 0 and keeps the gradient
        centered = centered - torch.where(constant, centered.detach(), 0.0)
        standard = centered / torch.where(constant, 1.0, w.std(dim=over, keepdim=True))
        size = torch.where(constant, 1.0, filter_mean(standard.detach().abs()))
        scale = torch.exp2(torch.round(torch.log2(size)))
        return Quantized(binarize(standard, ErrorDecay(self.t, self.k)), scale)

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
