# SPDX-License-Identifier: Apache-2.0
"""XNOR-Net: binary weights with a scale per filter, binary inputs with a scale map (1603.05279)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bittern.binary._common import check_choice, check_limit, filter_mean, filter_mean_abs
from bittern.estimators import Clip, Plateaus, binarize, straight_through, without_scale
from bittern.ops import mean_magnitude, mean_of_sample, sign
from bittern.quantizer import InputCode, InputScale, LayerShape, Quantized, Quantizer, SignCode
from bittern.start import HeNormal

Gradient = Literal["paper", "released", "full", "detached"]
Centering = Literal["none", "per_tap_in_channel", "per_filter"]


class XNORNet(Quantizer):
    """Signs of weights and inputs, a scale alpha per filter, and a scale K of the input at each output.

    Forward: W_q = sign(W), alpha = mean |W| of each filter of n weights; x_q = sign(x); K per `input_scale`:
        SPATIAL     mean |x| over the channels of each pixel, box-averaged over each receptive field (the paper)
        PER_SAMPLE  mean |x| of each sample, one number (BiBench): the mean over its pixels of the means of SPATIAL
        NONE        1 (the authors' code, which drops K for a small loss)
    K takes part in the forward pass only: no gradient flows through it. With groups, K is still over all channels.
    `centering` first subtracts from W its mean over the input channels at each kernel tap ("per_tap_in_channel", the
    authors' code) or its mean over each filter ("per_filter"); the paper does neither ("none").

    Backward, with g the gradient of the scaled weight alpha * sign(W) and everything taken at the centered W:
        "paper"     dW_i = g_i * (1/n + alpha * 1{|W_i| <= 1})
        "released"  as "paper" with 1{|W_i| < 1}, times 1 - 1/C_in, which stands in for the gradient of centering
        "full"      the complete gradient: sign(W_i)/n * sum_j g_j sign(W_j) + g_i * alpha * 1{|W_i| <= 1}
        "detached"  "full" with alpha held constant: g_i * alpha * 1{|W_i| <= 1}
    A filter of zeros has alpha = 0, from which "paper" and "released" cannot recover g: its gradient is 0.
    Except in "released", centering is differentiated. dL/dx = dL/dx_q * 1{|x| <= 1} (input_gradient="paper") or
    1{|x| < 1} ("released").
    Start: He's, N(0, 2 / fan_in), as the authors' code.
    After each step, with `clip_latent` = c: W <- clip(W, -c, c), and with centering too W <- clip(W - mean, -c, c), in
    the order of the authors' code, which centers first and stores the result: so a drift that all input channels share
    neither adds up nor reaches the clip.

    Differences: the authors' code is gradient="released", input_gradient="released", input_scale=InputScale.NONE,
    centering="per_tap_in_channel", clip_latent=1.0; it also multiplies the gradient by n, a matter of
    learning rates that is not repeated here. It does not center again what the clip has cut; here the forward pass
    does, which moves a tap by what the clip took from it, divided by the input channels. sign(0) = +1 here, 0 there.
    Errors: ValueError for an unknown option, or where centering or "released" would leave nothing of the weight.
    Source: arXiv 1603.05279.
    """

    start = HeNormal()

    def __init__(
        self,
        shape: LayerShape,
        *,
        input_scale: InputScale = InputScale.SPATIAL,
        gradient: Gradient = "paper",
        input_gradient: Literal["paper", "released"] = "paper",
        centering: Centering = "none",
        clip_latent: float | None = None,
    ) -> None:
        super().__init__(shape)
        check_choice("XNORNet", "input_scale", input_scale, tuple(InputScale))
        check_choice("XNORNet", "gradient", gradient, ("paper", "released", "full", "detached"))
        check_choice("XNORNet", "input_gradient", input_gradient, ("paper", "released"))
        check_choice("XNORNet", "centering", centering, ("none", "per_tap_in_channel", "per_filter"))
        check_limit("XNORNet", "clip_latent", clip_latent, optional=True)
        per_tap = centering == "per_tap_in_channel" or gradient == "released"
        if (per_tap and shape.weight[1] == 1) or (centering == "per_filter" and shape.fan_in == 1):
            raise ValueError(
                f"XNORNet: centering={centering!r} with gradient={gradient!r} leaves nothing of a weight "
                f"{list(shape.weight)}, which is its own mean; use centering='none' and gradient='paper' here"
            )
        self.input_scale = input_scale
        self.gradient = gradient
        self.input_gradient = input_gradient
        self.centering = centering
        self.clip_latent = clip_latent

    def weight(self, w: Tensor) -> Quantized:
        w = self._centered(w)
        alpha = filter_mean_abs(w)
        clip = Clip(strict=self.gradient == "released")
        if self.gradient == "detached":
            return Quantized(binarize(w, clip), alpha)
        if self.gradient == "full":
            # mean |W| with d|W|/dW = sign(W), also at 0, where torch's own derivative is 0
            magnitude = straight_through(w.detach().abs(), w, sign(w.detach()))
            return Quantized(binarize(w, clip), filter_mean(magnitude))
        factor = 1.0 - 1.0 / self.shape.weight[1] if self.gradient == "released" else 1.0
        inside, outside = (factor * (1.0 / self.shape.fan_in + a) for a in (alpha, torch.zeros_like(alpha)))
        slopes = without_scale(inside, alpha), without_scale(outside, alpha)
        return Quantized(binarize(w, Plateaus(*slopes, clip.strict)), alpha)

    def settle(self, w: Tensor) -> None:
        if self.clip_latent is None:
            return
        if self.centering != "none":
            w.sub_(self._mean(w))
        w.clamp_(-self.clip_latent, self.clip_latent)

    def _centered(self, w: Tensor) -> Tensor:
        if self.centering == "none":
            return w
        mean = self._mean(w)
        return w - (mean.detach() if self.gradient == "released" else mean)

    def _mean(self, w: Tensor) -> Tensor:
        return w.mean(dim=1, keepdim=True) if self.centering == "per_tap_in_channel" else filter_mean(w)

    def input(self, x: Tensor) -> Quantized:
        values = binarize(x, Clip(strict=self.input_gradient == "released"))
        if self.input_scale is InputScale.NONE:
            return Quantized(values)
        mean = mean_magnitude(x.detach())  # in an order of its own, which packed models repeat
        if self.input_scale is InputScale.PER_SAMPLE:
            mean = mean_of_sample(mean)
        return Quantized(values, mean)

    def input_code(self) -> InputCode:
        return SignCode(scale=self.input_scale)
