# SPDX-License-Identifier: Apache-2.0
"""FDA-BNN: gradients of sign from its Fourier series, and noise that learns its error (2103.00841)."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern import ops
from bittern.binary._common import check_choice, check_progress
from bittern.estimators import (
    Fourier,
    binarize,
    in_order,
    is_transformed,
    lies_channels_last,
    note_origin,
    once,
    out_of_order,
)
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode

OMEGA = 0.1
"""BiBench's angular frequency; the paper's own value is not known to us."""
TERMS_FIRST = 9
TERMS_LAST = 18
NOISE_FIRST = 0.1
"""The noise's weight alpha at t = 0; it falls to 0 along half a cosine."""
REDUCTION = 64
"""The noise module's hidden layer is this many times narrower than its input."""
SINE = 0.1
"""Amplitude a of the noise's sine shortcut eta(t) = a sin(t)."""


class FDA(Quantizer):
    """Signs of weights and inputs, one scale per layer, gradients from a truncated Fourier series.

    Forward: W_q = sign(W), scale E|W| over the layer (0-dim); x_q = sign(x). In training each becomes
    sign(v) + alpha e(v), so the values leave the grid by the noise until alpha is 0; in eval mode they never do.
        e(v) = ReLU(v W1) W2 + 0.1 sin(v), W1 [d, h], W2 [h, d], h = max(1, floor(d / 64))
    along the channels of the input (d = in_channels) and along each filter of the weight (d = fan_in).
    Backward: d sign(v)/dv := (4 omega / pi) sum_{i=0..n} cos((2i+1) omega v) (mask="paper"), times 1{|v| <= 1}
    (mask="bibench"); the noise is differentiated; the scale is held constant and multiplies the gradient, as the
    layer does. Where v is infinite the derivative is 0.
    Start: as the network's real weights; W1 and W2 have mean zero, as the paper asks.
    Schedules (`set_progress`, buffers `n` and `alpha`): n = 9 + floor(9 t); alpha = 0.05 (1 + cos(pi t)).
    Without `set_progress` they stay at 9 and 0.1.

    omega: 0.1 is BiBench's value; the paper's is unknown to us. n = 9 ... 18 and a zero of alpha at the end are the
    paper's, alpha's first value and its curve BiBench's. At 0.1 the series is a smooth bump rather than a square
    wave's slope, and negative beyond |v| = pi / (2 (n + 1) omega), 0.83 at n = 18: `clamp_negative` makes
    negative parts 0.
    Differences: the paper has sign(0) = -1, +1 here. BiBench masks the gradient beyond |v| = 1 (mask="bibench"), which
    the paper does not, scales each channel, keeps the noise in eval mode, and creates part of the noise module in the
    first forward, unseen by the optimizer; here W1 and W2 exist from the start.
    Errors: ValueError unless 0 < omega <= pi (beyond pi the wave changes sign inside |v| <= 1); for an unknown option.
    Source: arXiv 2103.00841 (NeurIPS 2021).
    """

    n: Tensor
    alpha: Tensor

    def __init__(
        self,
        shape: LayerShape,
        *,
        omega: float = OMEGA,
        clamp_negative: bool = False,
        mask: Literal["paper", "bibench"] = "paper",
    ) -> None:
        super().__init__(shape)
        if not 0.0 < omega <= math.pi:
            raise ValueError(f"FDA: omega must lie in (0, pi]; got {omega}")
        check_choice("FDA", "clamp_negative", clamp_negative, (False, True))
        check_choice("FDA", "mask", mask, ("paper", "bibench"))
        self.omega = omega
        self.mask = mask
        self.clamp_negative = clamp_negative
        self.weight_noise = NoiseAdaptation(shape.fan_in)
        self.input_noise = NoiseAdaptation(shape.in_channels)
        self.register_buffer("n", torch.tensor(TERMS_FIRST))
        self.register_buffer("alpha", torch.tensor(NOISE_FIRST))

    def weight(self, w: Tensor) -> Quantized:
        scale = w.detach().abs().mean()
        if not self.training:
            return Quantized(binarize(w, self._estimator()), scale)
        return Quantized(self._noisy(w, self.weight_noise, along_filters=True), scale)

    def input(self, x: Tensor) -> Quantized:
        if not self.training:
            return Quantized(binarize(x, self._estimator()))
        return Quantized(self._noisy(x, self.input_noise, along_filters=False))

    def input_code(self) -> InputCode:
        return SignCode()

    def set_progress(self, t: float) -> None:
        check_progress("FDA", t)
        self.n.fill_(TERMS_FIRST + math.floor((TERMS_LAST - TERMS_FIRST) * t))
        self.alpha.fill_(NOISE_FIRST / 2.0 * (1.0 + math.cos(math.pi * t)))

    def _noisy(self, v: Tensor, module: NoiseAdaptation, along_filters: bool) -> Tensor:
        """sign(v) + alpha e(v) along the filters of a weight, or the channels of an input."""
        estimator = self._estimator()
        down, up = module.down.weight.to(v.dtype), module.up.weight.to(v.dtype)
        if not is_transformed() and len(down) <= ops.MOST_HIDDEN:
            found: Tensor = _AdaptedSign.apply(v, down, up, self.alpha, estimator, along_filters)  # type: ignore[no-untyped-call]
            return found
        noise = _learned_noise(v, down, up, self.alpha.to(v.dtype), along_filters)
        wave = SINE * self.alpha.to(v.dtype)
        if is_transformed():
            return binarize(v, estimator) + (noise + wave * torch.sin(v))
        result: Tensor = _NoisySign.apply(v, noise, wave, estimator)  # type: ignore[no-untyped-call]
        return result

    def _estimator(self) -> Fourier:
        return Fourier(self.n, self.omega, 1.0 if self.mask == "bibench" else None, self.clamp_negative)


class NoiseAdaptation(nn.Module):
    """W1 and W2 of the learned part of e(v), v [..., d]; used in training only."""

    def __init__(self, d: int) -> None:
        super().__init__()
        hidden = max(1, d // REDUCTION)
        self.down = nn.Linear(d, hidden, bias=False)
        self.up = nn.Linear(hidden, d, bias=False)


def _learned_noise(v: Tensor, down: Tensor, up: Tensor, alpha: Tensor, along_filters: bool) -> Tensor:
    """alpha ReLU(v W1) W2, of the shape of v."""
    rows = v.flatten(1) if along_filters else v.movedim(1, -1)
    noise = F.linear(torch.relu(F.linear(rows, down)), alpha * up)  # alpha where there are few numbers
    return noise.view_as(v) if along_filters else noise.movedim(-1, 1)


class _NoisySign(torch.autograd.Function):
    """sign(v) + (noise + wave sin(v)), whose sign has the gradient of a Fourier series; for wide hidden layers."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, noise: Tensor, wave: Tensor, estimator: Fourier) -> Tensor:
        ctx.last, ctx.constants = lies_channels_last(v), estimator[1:]
        ctx.save_for_backward(v, wave, estimator.n + 1)
        return out_of_order(ops.noisy_sign.direct(in_order(v, ctx.last), in_order(noise, ctx.last), wave), ctx.last)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, (v, wave, terms) = grads[0], ctx.saved_tensors
        if torch.is_grad_enabled():  # the result may be differentiated again
            slope = ops.fourier_gradient(torch.ones_like(grad), v.detach(), terms, *ctx.constants)
            to_v = grad * once(v, slope) + grad * (wave * torch.cos(v))
        else:
            places = in_order(grad, ctx.last), in_order(v, ctx.last)
            to_v = out_of_order(ops.fourier_gradient.direct(*places, terms, *ctx.constants, wave), ctx.last)
        return to_v, grad, None, None


class _AdaptedSign(torch.autograd.Function):
    """sign(v) + alpha e(v), whose sign has the gradient of a Fourier series; v alone is kept."""

    @staticmethod
    def forward(
        ctx: Any, v: Tensor, down: Tensor, up: Tensor, alpha: Tensor, estimator: Fourier, along_filters: bool
    ) -> Tensor:
        ctx.along_filters, ctx.constants = along_filters, estimator[1:]
        alpha = alpha.clone()
        ctx.save_for_backward(v, down, up, alpha, estimator.n + 1)
        note_origin(ctx, partial(_adapted, along_filters), v, down, up, alpha)
        return _adapted(along_filters, v, down, up, alpha)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, (v, down, up, alpha, terms) = grads[0], ctx.saved_tensors
        if torch.is_grad_enabled():  # the result may be differentiated again
            return *_differentiable(ctx, grad), None, None, None
        rows = _rows(grad, ctx.along_filters), _rows(v, ctx.along_filters)
        given = (down, up, alpha, SINE, terms, *ctx.constants)
        to_v, to_down, to_up = ops.adapted_sign_gradient.direct(*rows, *given)
        return _like(v, to_v, ctx.along_filters), to_down, to_up, None, None, None


def _adapted(along_filters: bool, v: Tensor, down: Tensor, up: Tensor, alpha: Tensor) -> Tensor:
    """sign(v) + alpha e(v), in the layout of v."""
    return _like(v, ops.adapted_sign.direct(_rows(v, along_filters), down, up, alpha, SINE), along_filters)


def _differentiable(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of v, down and up as functions of them and of grad that autograd follows."""
    v, down, up, alpha, terms = ctx.saved_tensors
    alpha, wanted = alpha.to(v.dtype), ctx.needs_input_grad[:3]
    noise = _learned_noise(v, down, up, alpha, ctx.along_filters) + alpha * SINE * torch.sin(v)
    asked = [t for t, asks in zip((v, down, up), wanted, strict=True) if asks]
    found = iter(torch.autograd.grad(noise, asked, grad, create_graph=True))
    to_v, to_down, to_up = (next(found) if asks else None for asks in wanted)
    if to_v is not None:
        slope = ops.fourier_gradient(torch.ones_like(grad), v.detach(), terms, *ctx.constants)
        to_v = grad * once(v, slope) + to_v
    return to_v, to_down, to_up


def _rows(v: Tensor, along_filters: bool) -> Tensor:
    """[rows, d]: the filters of a weight, or the pixels of an input."""
    return v.flatten(1) if along_filters else v.movedim(1, -1).flatten(0, -2)


def _like(v: Tensor, rows: Tensor, along_filters: bool) -> Tensor:
    """What `_rows` would make these rows of, in the layout of v."""
    last = lies_channels_last(v)
    if along_filters:
        whole = rows.view(v.shape)
        return whole.contiguous(memory_format=torch.channels_last) if last else whole
    whole = rows.view(len(v), *v.shape[2:], v.shape[1]).movedim(-1, 1)
    return whole if last else whole.contiguous()
