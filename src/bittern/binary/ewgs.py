# SPDX-License-Identifier: Apache-2.0
"""EWGS: learned ranges, and gradients scaled by what rounding took away (2104.00903)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bittern._first_batch import FirstBatchQuantizer
from bittern.binary._common import check_bits
from bittern.estimators import gradient_scaled_levels
from bittern.quantizer import LayerShape, LevelsCode, Quantized

MOST_BITS = 8
"""Values of up to 8 bits are what a packed layer can hold."""
HALF_NORMAL = math.sqrt(1.0 - 2.0 / math.pi)
"""Standard deviation of |z|, z standard normal: what a ReLU leaves of a norm's output, about."""


class EWGS(FirstBatchQuantizer):
    """Weights and inputs of k bits between learned limits l and u of each layer; a gradient scaled element by element.

    Forward, with t = clip((v - l) / (u - l), 0, 1) and t_q = round_half_even(t (2^k - 1)) / (2^k - 1):
        weights: 2 t_q - 1, odd integers with scale 1 / (2^k - 1); at k = 1 a tie, as a weight of 0, is +1
        inputs:  t_q, integers 0 ... 2^k - 1 with scale 1 / (2^k - 1); NaN is 0
        the layer's result times |s|, one learned s
    Backward: dL/dt = g (1 + delta sign(g) (t - t_q)), g the gradient of t_q; clip lets through 0 <= t <= 1, and v, l, u
    get the derivatives of (v - l) / (u - l).
    Start: weights as the network's real ones. On the first batch in training l, u = -3 std(W), 3 std(W); of inputs
    min(x), 3 std(x) / sqrt(1 - 2 / pi), max(x) unless that is between E x and max(x); s = E|x| E|W| / (E|x_q| E|W_q|).
    Before: -1, 1; 0, 1; 1.

    Differences: the authors' s starts at E|conv(x, W)| / E|conv(x_q, W_q)|, which a method, which sees no convolution,
    cannot compute, and their u, made for what a ReLU gives, may lie beyond all x. They set delta anew every ten
    epochs from the Hessian's trace, or keep 0.001 (`run.sh`); here it is constant. A tie of a 1-bit weight is -1 there.
    Errors: ValueError for bits outside 1 ... 8, or a delta that is negative or not finite.
    Source: arXiv 2104.00903; cvlab-yonsei/EWGS ImageNet/custom_modules.py.
    """

    def __init__(self, shape: LayerShape, *, weight_bits: int = 1, input_bits: int = 1, delta: float = 0.001) -> None:
        super().__init__(shape)
        check_bits("EWGS", "weight_bits", weight_bits, MOST_BITS)
        check_bits("EWGS", "input_bits", input_bits, MOST_BITS)
        if not 0.0 <= delta < math.inf:
            raise ValueError(f"EWGS: delta must be a number from 0 on; got {delta!r}; the authors take 0.001")
        self.weight_bits, self.input_bits, self.delta = weight_bits, input_bits, delta
        self.weight_low, self.weight_high = _number(-1.0), _number(1.0)
        self.input_low, self.input_high = _number(0.0), _number(1.0)
        self.scale = _number(1.0)
        """s, 0-dim like the limits."""

    def weight(self, w: Tensor) -> Quantized:
        code = LevelsCode(self.weight_bits)
        if self.starts("weight"):
            spread = 3.0 * w.detach().std(correction=min(1, w.numel() - 1))
            _set_range(self.weight_low, self.weight_high, -spread, spread)
            _set(self.scale, self.scale.abs() * _size(w) / _size(self._weight(w, code) / code.top))
        return Quantized(self._weight(w, code), _constant(1.0 / code.top, w))

    def _weight(self, w: Tensor, code: LevelsCode) -> Tensor:
        position = ((w - self.weight_low) / (self.weight_high - self.weight_low)).clamp(0.0, 1.0)
        tie_up = self.weight_bits == 1  # sign(0) = +1
        levels = (position.detach() >= 0.5).to(w.dtype) if tie_up else code.values(position)
        return 2.0 * gradient_scaled_levels(levels, position, code.top, self.delta) - code.top

    def input(self, x: Tensor) -> Quantized:
        if self.starts("input") and x.numel():
            low, most = x.detach().aminmax()
            high = x.detach().std(correction=min(1, x.numel() - 1)) / HALF_NORMAL * 3.0
            fits = (high > x.detach().mean()) & (high < most)
            _set_range(self.input_low, self.input_high, low, torch.where(fits, high, most))
            code = self.input_code()
            _set(self.scale, self.scale.abs() * _size(x) / _size(code.values(x) / code.top))
        code = self.input_code()
        position = code.position(x).clamp(0.0, 1.0)
        values = gradient_scaled_levels(code.values(x), position, code.top, self.delta)
        return Quantized(values, self.scale.abs() / code.top)

    def input_code(self) -> LevelsCode:
        return LevelsCode(self.input_bits, self.input_low, self.input_high - self.input_low)


def _constant(value: float, like: Tensor) -> Tensor | None:
    return None if value == 1.0 else torch.full((), value, dtype=like.dtype, device=like.device)


def _number(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))


@torch.no_grad()
def _set_range(low: Tensor, high: Tensor, new_low: Tensor, new_high: Tensor) -> None:
    """Where there is one: not for equal numbers, nor for NaN."""
    wide = (new_high - new_low > 0.0) & new_high.isfinite() & new_low.isfinite()
    low.copy_(torch.where(wide, new_low, low))
    high.copy_(torch.where(wide, new_high, high))


@torch.no_grad()
def _set(parameter: Tensor, value: Tensor) -> None:
    """Where it is a positive number: a batch of zeros says nothing."""
    parameter.copy_(torch.where(value.isfinite() & (value > 0.0), value, parameter))


def _size(x: Tensor) -> Tensor:
    return x.detach().abs().mean()
