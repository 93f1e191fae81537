# SPDX-License-Identifier: Apache-2.0
"""AdaBin: two values of their own for the weights of each filter and for the inputs of each layer (2208.08084)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from bittern import ops
from bittern.binary._common import check_choice, check_progress, check_spread_of_filter, filter_mean
from bittern.codes import Code, Ones, Signs
from bittern.estimators import ApproxSign, ErrorDecay, binarize, straight_through
from bittern.quantizer import InputCode, LayerShape, OnesCode, Quantized, Quantizer, SignCode
from bittern.start import HeNormal


class AdaBin(Quantizer):
    """Weights a_o sign + b_o about the mean of each filter, inputs a sign + b with a learned distance and centre.

    Forward, per filter of n weights: b_o = mean(W), a_o = sqrt(sum (W - b_o)^2 / n), V = (W - b_o) / a_o,
    W_q = a_o sign(V) + b_o. With u = (x - b) / |a|: x_q = |a| sign(u) + b; `offset`="released": |a| sign(u) + a b.
    Both offsets are terms of ones: y = |a| a_o conv(X, S) + |a| b_o conv(X, 1) + b a_o conv(1, S) + b b_o conv(1, 1),
    of the signs X of the input and S of the weight, with 1 all ones, padded with 0 as the quantized input is.
    Backward: dS/dV := k t (1 - tanh(t V)^2), and a_o and b_o are differentiated wherever they stand; dX/du := max(0,
    2 - 2|u|), and a and b, 0-dim, learn.
    Schedule: log10 t runs linearly from log10 t_min to log10 t_max and k = max(1/t, 1): `set_progress`, kept in the
    buffers `t` and `k`; without it t stays at t_min.
    Start: He's, N(0, 2 / fan_in), as the authors' ResNet-20; a = 1, b = 0.

    t_min, t_max: 1e-3 and 10, as the authors' script for CIFAR-10; without its option --progressive t = 0.1 and k = 10.
    Differences: the authors' code multiplies the centre of the inputs by the distance too (offset="released"), so
    that their two values are not centre plus and minus distance; the paper's own text was not found. A filter of equal
    weights divides by 0 there; here its deviation is at least 1e-19 in float32. In grouped convolutions the authors'
    deviation divides by the inputs of all groups. A distance below 0 gives the same values here as there, but at x = b.
    Maxout, the paper's activation, is a part of the model. sign(0) = +1 here, 0 there.
    Errors: ValueError for an unknown option, for filters of one weight, or unless 0 < t_min <= t_max.
    Source: arXiv 2208.08084.
    """

    t: Tensor
    k: Tensor
    start = HeNormal()

    def __init__(
        self,
        shape: LayerShape,
        *,
        offset: Literal["paper", "released"] = "paper",
        t_min: float = 1e-3,
        t_max: float = 10.0,
    ) -> None:
        super().__init__(shape)
        check_choice("AdaBin", "offset", offset, ("paper", "released"))
        check_spread_of_filter("AdaBin", shape)
        if not 0.0 < t_min <= t_max < math.inf:
            raise ValueError(f"AdaBin: needs 0 < t_min <= t_max; got t_min={t_min}, t_max={t_max}")
        self.offset, self.t_min, self.t_max = offset, t_min, t_max
        self.distance = nn.Parameter(torch.tensor(1.0))
        """a."""
        self.centre = nn.Parameter(torch.tensor(0.0))
        """b."""
        self.register_buffer("t", torch.tensor(t_min))
        self.register_buffer("k", torch.tensor(max(1.0 / t_min, 1.0)))

    def weight(self, w: Tensor) -> tuple[Quantized, ...]:
        centre = filter_mean(w)
        centered = w - centre
        least = torch.finfo(w.dtype).tiny
        distance = filter_mean(centered.square()).clamp(min=least).sqrt()
        signs = binarize(centered / distance, ErrorDecay(self.t, self.k))
        return Quantized(signs, distance), Quantized(torch.ones_like(w), centre)

    def weight_code(self) -> tuple[Code, ...]:
        return Signs(), Ones()

    def input(self, x: Tensor) -> tuple[Quantized, ...]:
        distance = self.distance.abs()
        offset = self.centre if self.offset == "paper" else self.centre * self.distance
        shifted = x - self.centre
        # outside the derivative is 0: nothing infinite is divided there
        inside = shifted.detach().abs() <= distance.detach()
        u = torch.where(inside, shifted, 0.0) / distance.clamp(min=torch.finfo(x.dtype).tiny)
        slope = torch.where(inside, ApproxSign().derivative(u), 0.0)
        signs = straight_through(ops.sign(shifted.detach()), u, slope)
        return Quantized(signs, distance), Quantized(torch.ones_like(x), offset)

    def input_code(self) -> tuple[InputCode, ...]:
        return SignCode(self.centre.expand(self.shape.in_channels)), OnesCode()

    def set_progress(self, t: float) -> None:
        check_progress("AdaBin", t)
        low, high = math.log10(self.t_min), math.log10(self.t_max)
        now = 10.0 ** (low + (high - low) * t)
        self.t.fill_(now)
        self.k.fill_(max(1.0 / now, 1.0))
