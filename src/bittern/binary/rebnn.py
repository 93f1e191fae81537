# SPDX-License-Identifier: Apache-2.0
"""ReBNN: a pull on weights, the stronger the more of them have just changed sign (2302.00956)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from bittern import ops
from bittern.binary._common import check_choice
from bittern.estimators import ApproxSign, Clip, binarize, follows_formula, is_transformed, without_scale
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode

UNIT = 0.02
"""What the authors' code multiplies its learned scale by."""
LEAST, MOST = 1e-5, 2e-4
"""Between these the authors' code holds gamma."""


class ReBNN(Quantizer):
    """Signs of weights with a learned scale per filter, a pull against oscillating signs, and ReActNet's inputs.

    Forward: W_q = sign(W), scale alpha = 0.02 |s|, s [out] learned, starting as N(0, 1). x_q = sign(x + b_c),
    b [in_channels] starting at 0.
    Backward, per filter, with g the gradient of the scaled weight alpha W_q and everything but W and s held constant:
        dW = alpha g 1{|W| <= 1} + gamma (W - alpha W_q)
        dalpha = sum g W_q - gamma sum (W - alpha W_q) W_q
    the gradients of the loss and of gamma / 2 |W - alpha W_q|^2, with
        gamma = the share of the filter's signs that the last step changed, times max |g|
    clamped to [1e-5, 2e-4] with gamma="released". A filter with alpha = 0 has gamma = 0 but for that.
    Inputs: dL/dx = dL/db (summed over all but the channels) = dL/dx_q * max(0, 2 - 2|x + b|).
    After each step (`settle`) the signs are kept in the buffer `signs`, and what share of them changed in `share`;
    before the first step gamma is 0.
    Start: as the network's real weights; in the paper those of ReActNet's first stage (`train_two_stage`).

    Differences: the paper takes max |g| of the step before; here, as in the authors' code, it is that of this one. The
    code guesses the signs before the step from the gradient, and takes sum g W for sum g W_q; it names a variable that
    does not exist, so it was read and not run. A textbook by the authors prints dalpha with a plus; the derivative has
    the minus, as their code. sign(0) = +1 here, 0 there.
    Errors: ValueError for an unknown option; NotImplementedError inside torch.func, where gamma cannot follow g.
    Source: arXiv 2302.00956 (AAAI 2023).
    """

    signs: Tensor
    share: Tensor

    def __init__(self, shape: LayerShape, *, gamma: Literal["paper", "released"] = "paper") -> None:
        super().__init__(shape)
        check_choice("ReBNN", "gamma", gamma, ("paper", "released"))
        self.gamma = gamma
        self.scale = nn.Parameter(torch.randn(shape.out_channels))
        """s [out_channels]; alpha = 0.02 |s|."""
        self.shift = nn.Parameter(torch.zeros(shape.in_channels))
        """b [in_channels]: the input becomes +1 where x >= -b."""
        self.register_buffer("signs", torch.zeros(shape.out_channels, shape.fan_in, dtype=torch.int8))
        self.register_buffer("share", torch.zeros(shape.out_channels))

    def weight(self, w: Tensor) -> Quantized:
        alpha = self.shape.weight_view(UNIT * self.scale.abs())
        if is_transformed():
            raise NotImplementedError(
                "ReBNN: its gradient depends on the size of the gradient that comes in; got a transform of torch.func "
                "or forward-mode differentiation; call backward(), or use another method, as ReActNet"
            )
        if follows_formula(w):
            return Quantized(binarize(w, Clip()), alpha)
        share = self.shape.weight_view(self.share.to(w.dtype))
        limits = (LEAST, MOST) if self.gamma == "released" else None
        values: Tensor = _Resilient.apply(w, alpha, share, limits)  # type: ignore[no-untyped-call]
        return Quantized(values, alpha)

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x + self.shape.input_view(self.shift), ApproxSign()))

    def input_code(self) -> InputCode:
        # x + b >= 0 in floating point exactly where x >= -b: a sum never rounds across or onto 0
        return SignCode(threshold=-self.shift.detach())

    def settle(self, w: Tensor) -> None:
        now = ops.sign(w.detach()).flatten(1).to(torch.int8)
        self.share.copy_((self.signs * now < 0).float().mean(1))
        self.signs.copy_(now)


class _Resilient(torch.autograd.Function):
    """sign(w), whose gradient is pulled towards what the sign stands for."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, alpha: Tensor, share: Tensor, limits: tuple[float, float] | None) -> Tensor:
        ctx.limits = limits
        ctx.save_for_backward(w, alpha, share)
        return ops.sign.direct(w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        w, alpha, share = ctx.saved_tensors
        over = tuple(range(1, w.ndim))
        # what comes in is alpha g
        gamma = without_scale(share * grads[0].detach().abs().amax(over, keepdim=True), alpha)
        if ctx.limits is not None:
            gamma = gamma.clamp(*ctx.limits)
        signs = ops.sign(w.detach())
        pull = gamma * (w - alpha * signs)
        to_alpha = -(pull * signs).sum(over, keepdim=True)
        return Clip().derivative(w) * grads[0] + pull, to_alpha, None, None
