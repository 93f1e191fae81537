# SPDX-License-Identifier: Apache-2.0
"""UI8: unified INT8 training, int8 operands forward and backward (1912.12607)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bittern._options import check_choice
from bittern.codes import Code, Integers, PerTensor
from bittern.estimators import once, straight_through, without_scale
from bittern.quant._real_inputs import check_share
from bittern.quantizer import LayerShape, Quantized, Quantizer, WholeCode

TOP = 127
"""The largest of the symmetric int8 numbers."""
CANDIDATES = 20
"""Clips that a search tries, evenly spaced up to max |g|."""


class UI8(Quantizer):
    """int8 weights, inputs and gradients with one scale a layer, and a learning rate that falls with their deviation.

    Forward: weights s round_half_even(W / s), s = max |W| / 127; inputs likewise with max |x| of the batch, in eval
    mode with a running mean of these (`decay`), which is part of the state and 1 before the first batch.
    Backward: rounding counts as the identity. The gradient g of the output becomes, in training, g_q = s floor(clip(g,
    -c, c) / s + u), s = c / 127, u uniform in [0, 1) from torch's default generator: both products of the backward pass
    have int8 operands. c is found every `period` passes: of max |g| i / 20, i = 1 ... 20, that of the least deviation
    d = 1 - cos(g, g_q), all with the same u (`clipping`="cosine"), or it is max |g| each time ("max").
    Learning rate: the weight's times max(exp(-alpha d), beta), if `rate_scaling`, by `optim.LayerRates`.
    Start: as the network's real weights.

    `deviations(model)` has d of each layer. Packing: whole numbers, as long as no sum passes 2^24.
    Differences: how the authors search c and average inputs was not read; the search and the mean are this library's.
    Gradients of zeros pass unchanged.
    Errors: ValueError for a period below 1, alpha or beta outside their range (at least 0; 0 to 1), a decay outside
    [0, 1).
    Source: arXiv 1912.12607, of which summaries were read.
    """

    input_bits = 8
    follows_loss_scale = False  # the clip of a gradient holds for many passes
    largest_input: Tensor
    clip: Tensor
    passes: Tensor
    deviation: Tensor
    started: Tensor

    def __init__(
        self,
        shape: LayerShape,
        *,
        clipping: Literal["cosine", "max"] = "cosine",
        period: int = 100,
        rate_scaling: bool = True,
        alpha: float = 20.0,
        beta: float = 0.1,
        decay: float = 0.9,
    ) -> None:
        super().__init__(shape)
        check_choice("UI8", "clipping", clipping, ("cosine", "max"))
        check_choice("UI8", "rate_scaling", rate_scaling, (True, False))
        check_share("UI8", "decay", decay)
        if not isinstance(period, int) or isinstance(period, bool) or period < 1:
            raise ValueError(f"UI8: period must be an integer of at least 1; got {period!r}")
        if not (0.0 <= alpha < math.inf and 0.0 <= beta <= 1.0):
            raise ValueError(f"UI8: alpha must be at least 0 and beta from 0 to 1; got {alpha!r} and {beta!r}")
        self.clipping, self.period, self.rate_scaling = clipping, period, rate_scaling
        self.alpha, self.beta, self.decay = alpha, beta, decay
        for name, start in (("largest_input", 1.0), ("clip", 0.0), ("deviation", 0.0)):
            self.register_buffer(name, torch.tensor(start))
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        """Of gradients, so far."""
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def weight(self, w: Tensor) -> Quantized:
        return _whole(w, _scale(w))

    def weight_code(self) -> Code:
        return Integers(-TOP, TOP, scale=PerTensor())

    def input(self, x: Tensor) -> Quantized:
        if not self.training or not x.numel():
            step = self._step(x)
            inside = (x.detach().abs() <= TOP * step).to(x.dtype)
            return Quantized(straight_through(self.input_code().values(x), x, inside / step), step)
        with torch.no_grad():
            seen = x.detach().abs().amax().to(self.largest_input.dtype)
            mean = self.decay * self.largest_input + (1 - self.decay) * seen
            self.largest_input.copy_(torch.where(self.started, mean, seen))
            self.started.fill_(True)
        return _whole(x, _scale(x))

    def input_code(self) -> WholeCode:
        return WholeCode(-TOP, TOP, self._step(self.largest_input))

    def _step(self, like: Tensor) -> Tensor:
        most = self.largest_input.to(like.dtype)
        return torch.where(most == 0, 1.0, most / TOP)

    def output(self, y: Tensor) -> Tensor:
        if not self.training:
            return y
        result: Tensor = _Int8Gradient.apply(y, self)  # type: ignore[no-untyped-call]
        return result

    def rate_factor(self) -> float:
        if not self.rate_scaling:
            return 1.0
        return max(math.exp(-self.alpha * float(self.deviation)), self.beta)

    def rounded(self, g: Tensor) -> Tensor:
        """g_q; notes the deviation, and once in a while the clip."""
        most = g.abs().amax() if g.numel() else g.new_zeros(())
        if float(most) == 0.0:
            self.deviation.zero_()
            return g
        u = torch.rand_like(g)
        if self.clipping == "max":
            self.clip.copy_(most)
        elif int(self.passes) % self.period == 0 or float(self.clip) == 0.0:
            self.clip.copy_(best_clip(g, u))
        self.passes += 1
        q = int8_gradient(g, self.clip.to(g.dtype), u)
        self.deviation.copy_(deviation(g, q))
        return q


def int8_gradient(g: Tensor, clip: Tensor, u: Tensor) -> Tensor:
    """s floor(clip(g, -c, c) / s + u), s = c / 127."""
    step = clip / TOP
    return torch.floor(torch.minimum(torch.maximum(g, -clip), clip) / step + u).clamp(-TOP, TOP) * step


def deviation(g: Tensor, q: Tensor) -> Tensor:
    """d = 1 - cos(g, q), at least 0; 1 where q is 0 and g is not."""
    a, b = g.double().flatten(), q.double().flatten()
    norms = a.norm() * b.norm()
    return torch.where(norms == 0, 1.0, 1.0 - (a @ b) / norms).clamp(min=0.0)


def best_clip(g: Tensor, u: Tensor) -> Tensor:
    """Of max |g| i / 20, i = 1 ... 20, the clip of the least deviation; of several the largest."""
    most = g.abs().amax()
    clips = [most * (i / CANDIDATES) for i in range(CANDIDATES, 0, -1)]
    found = torch.stack([deviation(g, int8_gradient(g, clip, u)) for clip in clips])
    return clips[int(found.argmin())]


def deviations(model: nn.Module) -> dict[str, float]:
    """d of the last backward pass of each layer whose method is UI8, by name."""
    found = ((name, getattr(module, "method", None)) for name, module in model.named_modules())
    return {name: float(method.deviation) for name, method in found if isinstance(method, UI8)}


def _scale(x: Tensor) -> Tensor:
    """max |x| / 127; 0 of zeros and of nothing."""
    return (x.detach().abs().amax() if x.numel() else x.new_zeros(())) / TOP


def _whole(x: Tensor, scale: Tensor) -> Quantized:
    """x in whole steps, whose real value has the gradient of x."""
    values = torch.round(x.detach() / torch.where(scale == 0, 1.0, scale)).clamp(-TOP, TOP) + 0.0
    return Quantized(straight_through(values, x, without_scale(torch.ones_like(scale), scale)), scale)


class _Int8Gradient(torch.autograd.Function):
    """The identity, whose gradient the method rounds."""

    @staticmethod
    def forward(y: Tensor, method: UI8) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, UI8], output: Tensor) -> None:
        ctx.method = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        g = grads[0]
        with torch.no_grad():
            q = ctx.method.rounded(g.detach())
        return once(g, q, "a rounded gradient"), None
