# SPDX-License-Identifier: Apache-2.0
"""RBNN: weights that are rotated towards their signs before these are taken (2009.13055)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from bittern.binary._common import check_choice, check_progress, check_spread_of_filter, standardized
from bittern.binary._samples import check_samples, spread_of_samples
from bittern.estimators import Triangle, binarize
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode
from bittern.start import HeNormal

ALTERNATIONS = 3
"""How often signs and both rotations are improved in turn where rotations are learned."""


class RBNN(Quantizer):
    """Signs of weights that were standardized per filter and rotated towards their signs; a learned scale per filter.

    Forward, per filter of n = a b weights, a the largest divisor of n up to sqrt(n): W^ = (W - mean(W)) / std(W) with
    the unbiased std, X = W^ as [a, b], W~ = X + |sin theta| (R1^T X R2 - X), W_q = sign(W~), scale alpha. R1 [a, a] and
    R2 [b, b] are orthogonal and of the whole layer; theta [out] and alpha [out] are learned. x_q = sign(x).
    A filter whose weights are all equal has no std: W^ = 0 and W_q = +1.
    Rotations maximize sum |R1^T X R2| over the layer: 3 times in turn B = sign(R1^T X R2), R1 = V U^T of the singular
    value decomposition U S V^T = sum B R2^T X^T, R2 = U V^T of U S V^T = sum X^T R1 B. They are learned anew after the
    first step (`settle`) and `rotations` times in all, evenly over the training; they carry no gradient.
    Backward: d sign(v)/dv := k max(0, sqrt(2) t - t^2 |v|) for v = W~, and everything before it is differentiated, so
    that a gradient D of W~ reaches
        "full"      X as (1 - |sin theta|) D + |sin theta| R1 D R2^T
        "released"  X as (1 - |sin theta|) D, the authors' code, which holds R1^T X R2 constant
    Inputs: in training, with x1 = x / sqrt(var(x) + 1e-5) over each sample, the same with k = 1 and max(t, 1) for
    v = x1, which is differentiated; in eval mode x1 = x.
    Schedule: log10 t runs linearly from log10 t_min to log10 t_max and k = max(1/t, 1): `set_progress`, kept in the
    buffers `t`, `k` and `due`; without it t stays at t_min and rotations are learned once.
    Start: He's, N(0, 2 / fan_in), as the authors' ResNets; R1 and R2 random, theta uniform in (0, pi/2), alpha
    1 / (2 sqrt(fan_in)), which is mean |W| where torch draws W, as the authors' code has it.

    t_min, t_max: 1e-2 and 10 in all of the authors' runs. rotations: they learn them once an epoch, in 150 to 1000;
    each turns signs that the network has to get used to, so a short training takes fewer, as many as it has epochs.
    Differences: the authors' code subtracts its mean from each sample before the sign, a threshold that depends on the
    sample, which no packed input has; here the norm in front sees to it. On ImageNet their theta starts at pi/2, where
    the gradient of "released" is 0. Their t and k are not part of the state. sign(0) = +1 here, 0 there.
    Only code and abstract were read. Estimator and rotations are torch's operations, in eval mode in float64: no
    rounding of a product turns a sign.
    Errors: ValueError for filters of one weight, samples of one value, an unknown option, or unless 0 < t_min <= t_max.
    Source: arXiv 2009.13055 (NeurIPS 2020).
    """

    R1: Tensor
    R2: Tensor
    t: Tensor
    k: Tensor
    due: Tensor
    learned: Tensor
    start = HeNormal()

    def __init__(
        self,
        shape: LayerShape,
        *,
        gradient: Literal["full", "released"] = "full",
        t_min: float = 1e-2,
        t_max: float = 10.0,
        rotations: int = 150,
    ) -> None:
        super().__init__(shape)
        check_spread_of_filter("RBNN", shape)
        check_choice("RBNN", "gradient", gradient, ("full", "released"))
        if not 0.0 < t_min <= t_max < math.inf:
            raise ValueError(f"RBNN: needs 0 < t_min <= t_max; got t_min={t_min}, t_max={t_max}")
        if not isinstance(rotations, int) or isinstance(rotations, bool) or rotations < 1:
            raise ValueError(f"RBNN: rotations must be an integer of at least 1; got {rotations!r}")
        self.gradient = gradient
        self.t_min = t_min
        self.t_max = t_max
        self.rotations = rotations
        self.alpha = nn.Parameter(torch.full((shape.out_channels,), shape.fan_in**-0.5 / 2.0))
        """Learned scale [out_channels]."""
        self.theta = nn.Parameter(torch.rand(shape.out_channels) * (math.pi / 2.0))
        """How far each filter is rotated: |sin theta| [out_channels] of the way."""
        a = max(d for d in range(1, math.isqrt(shape.fan_in) + 1) if shape.fan_in % d == 0)
        self.register_buffer("R1", _rotation(a))
        self.register_buffer("R2", _rotation(shape.fan_in // a))
        self.register_buffer("t", torch.tensor(t_min))
        self.register_buffer("k", torch.tensor(max(1.0 / t_min, 1.0)))
        self.register_buffer("due", torch.tensor(1))
        self.register_buffer("learned", torch.tensor(0))

    def weight(self, w: Tensor) -> Quantized:
        x = self._matrices(standardized(w if self.training else w.double()))
        rotated = self.R1.to(x.dtype).t() @ x @ self.R2.to(x.dtype)
        if self.gradient == "released":
            rotated = rotated.detach()
        way = self.theta.to(x.dtype).sin().abs().view(-1, 1, 1)
        values = binarize((x + way * (rotated - x)).view_as(w), Triangle(self.t, self.k))
        return Quantized(values.to(w.dtype), self.shape.weight_view(self.alpha))

    def input(self, x: Tensor) -> Quantized:
        estimator = Triangle(self.t.clamp_min(1.0), torch.ones_like(self.k))
        if not self.training or x.shape[0] == 0:
            return Quantized(binarize(x, estimator))
        check_samples("RBNN", x)
        return Quantized(spread_of_samples(x, estimator))

    def input_code(self) -> InputCode:
        return SignCode()

    def settle(self, w: Tensor) -> None:
        if int(self.learned) < int(self.due):
            self._learn(self._matrices(standardized(w.detach().double())))
            self.learned.copy_(self.due)

    def set_progress(self, t: float) -> None:
        check_progress("RBNN", t)
        low, high = math.log10(self.t_min), math.log10(self.t_max)
        now = 10.0 ** (low + (high - low) * t)
        self.t.fill_(now)
        self.k.fill_(max(1.0 / now, 1.0))
        self.due.fill_(1 + math.floor(t * (self.rotations - 1)))

    def _matrices(self, w: Tensor) -> Tensor:
        return w.reshape(w.shape[0], self.R1.shape[0], self.R2.shape[0])

    def _learn(self, x: Tensor) -> None:
        """Improve both rotations for x [out, a, b] in float64; the sum of |R1^T x R2| never falls."""
        one, two = self.R1.double(), self.R2.double()
        for _ in range(ALTERNATIONS):
            signs = torch.where(one.t() @ x @ two >= 0.0, 1.0, -1.0).to(x.dtype)
            u, _, vh = torch.linalg.svd(torch.einsum("oab,bc,odc->ad", signs, two.t(), x))
            one = vh.t() @ u.t()
            u, _, vh = torch.linalg.svd(torch.einsum("oab,ac,ocd->bd", x, one, signs))
            two = u @ vh
        self.R1.copy_(one)
        self.R2.copy_(two)


def _rotation(size: int) -> Tensor:
    """A random orthogonal matrix, all equally likely."""
    return nn.init.orthogonal_(torch.empty(size, size))
