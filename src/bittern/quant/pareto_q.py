# SPDX-License-Identifier: Apache-2.0
"""ParetoQ: weights of 1, 1.58, 2, 3 and 4 bits with a learned scale of each row, and real inputs (2502.02631)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bittern._options import check_choice
from bittern.codes import Code, Integers, Signs, Ternary, odd_integers
from bittern.estimators import straight_through
from bittern.ops import sign
from bittern.quant._real_inputs import RealInputs, over_filter
from bittern.quantizer import LayerShape, Quantized

LEAST_SCALE = 1e-5
"""What a smaller scale counts as."""
STRETCH = 0.99
"""Of three and four levels: where W / a is clipped, so that rounding never passes the outermost level."""


class ParetoQ(RealInputs):
    """Weights of `levels` levels with a learned scale a of each output channel, and real inputs.

    With v = W / a, a at least 1e-5, and n the weights of the layer:
        2       w_q = a sign(W)                                                                c = 1
        3       w_q = a/1.5 round(1.5 clip(v, -0.99, 0.99)): {-1, 0, 1} a / 1.5                c = 1
        4       w_q = a/2 (round(2 clip(v, -0.99, 0.99) - 1/2) + 1/2): {-3, -1, 1, 3} a / 4    c = 1
        8, 16   w_q = a clip(round(v), -levels/2, levels/2 - 1)                                c = levels/2 - 1
    round is to even. x_q = x.
    Backward, with g the gradient of w_q and m = 1 where v is not clipped (|v| <= 1; |v| <= 0.99; in the range), else 0:
    dW = g m; da = 1/sqrt(n c) * sum over the row of g (w_q / a - m v), or for two levels of g sign(W), also where a
    counts as 1e-5. dL/dx = dL/dx_q.
    Start: as the network's real weights. a is set from the weight at the first forward pass in training mode: mean |W|
    of the row for 2 levels, max |W| for 3 and 4, max |W| / (levels/2 - 1) for 8 and 16. Until then eval mode has the
    same number, computed anew.

    Differences: the authors set a before training, from a trained language model's weights, and their layers are linear
    only; a row is an output channel here. sign(0) = +1 here, 0 there.
    Errors: ValueError for other levels.
    Source: arXiv 2502.02631.
    """

    started: Tensor

    def __init__(self, shape: LayerShape, *, levels: int = 2) -> None:
        super().__init__(shape)
        check_choice("ParetoQ", "levels", levels, (2, 3, 4, 8, 16))
        self.levels = levels
        self.scale = nn.Parameter(torch.ones(shape.out_channels))
        """a [out_channels]."""
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        """Whether `scale` was set from the weight: part of the state."""
        self._has_started = False  # asking a buffer takes a GPU's time at every call

    def weight(self, w: Tensor) -> Quantized:
        a = self._scale(w)
        if self.levels == 2:
            inside = ((w.detach() / a.detach()).abs() <= 1.0).to(w.dtype)
            return Quantized(straight_through(sign(w.detach()), w, inside / a.detach()), a)
        v = w / a
        real = v.detach()
        if self.levels in (3, 4):
            inside = real.abs() <= STRETCH
            n = 1.5 if self.levels == 3 else 2.0
            shift = 0.0 if self.levels == 3 else 0.5
            level = torch.round(real.clamp(-STRETCH, STRETCH) * n - shift) + shift
            # four levels are halves of odd numbers
            values, divisor = (level, n) if self.levels == 3 else (2.0 * level, 2 * n)
        else:
            low, high = -float(self.levels // 2), float(self.levels // 2 - 1)
            inside = (real >= low) & (real <= high)
            values, divisor = torch.round(real).clamp(low, high), 1.0
        return Quantized(straight_through(values, v, inside.to(w.dtype) * divisor), a / divisor)

    def was_loaded(self) -> None:
        self._has_started = bool(self.started)

    def _scale(self, w: Tensor) -> Tensor:
        """a [out, 1, ...], with the gradient that it has."""
        a = self._started(w.detach()).clamp(min=LEAST_SCALE)
        c = 1 if self.levels <= 4 else self.levels // 2 - 1
        slope = torch.full_like(a, (w.numel() * c) ** -0.5)
        return self.shape.weight_view(straight_through(a, self.scale, slope))

    def _started(self, w: Tensor) -> Tensor:
        """a [out]: as it is, or as it would start from this weight; set in training mode."""
        self._has_started = self._has_started or bool(self.started)
        if self._has_started:
            return self.scale.detach()
        fresh = self._fresh(w)
        if self.training:
            with torch.no_grad():
                self.scale.copy_(fresh)
                self.started.fill_(True)
            self._has_started = True
        return fresh

    def _fresh(self, w: Tensor) -> Tensor:
        """a of a weight [out, ...] -> [out]."""
        size = w.abs()
        if self.levels == 2:
            return size.mean(over_filter(w))
        return size.amax(over_filter(w)) / (1 if self.levels <= 4 else self.levels // 2 - 1)

    def weight_code(self) -> Code:
        if self.levels in (2, 4):
            return Signs() if self.levels == 2 else odd_integers(2)
        return Ternary() if self.levels == 3 else Integers(-(self.levels // 2), self.levels // 2 - 1)
