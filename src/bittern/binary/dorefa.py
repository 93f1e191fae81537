# SPDX-License-Identifier: Apache-2.0
"""DoReFa-Net: weights, inputs and gradients of a few bits each (1606.06160)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern._squashed import squashed
from bittern.binary._common import check_bits, check_choice
from bittern.estimators import Levels, binarize, estimate, once, straight_through, without_scale
from bittern.quantizer import InputCode, LayerShape, LevelsCode, Quantized, Quantizer
from bittern.start import HeNormal

MOST_BITS = 8
"""Values of up to 8 bits are what a packed layer can hold."""
REAL_GRADIENT_BITS = 32
"""`gradient_bits` that stands for gradients left alone."""
MOST_GRADIENT_BITS = 16
"""2^16 levels are still far apart in float32, whose 24 bits must also carry the added noise."""


class DoReFa(Quantizer):
    """k-bit weights and inputs on uniform grids, and on request gradients quantized stochastically.

    With q_k(r) = round_half_even(r * (2^k - 1)) / (2^k - 1) on [0, 1] and k = `weight_bits`, `input_bits` in 1 ... 8:
        weights, k = 1: sign(w) * E|w|, E over the whole layer (0-dim scale)
        weights, k > 1: 2 q_k(tanh(w) / (2 max|tanh w|) + 1/2) - 1: odd integers 2m - (2^k - 1), scale 1 / (2^k - 1);
                        a weight of 0 becomes +1 / (2^k - 1), also in a layer of zeros
        inputs:         q_k(clip(x, 0, 1)): integers 0 ... 2^k - 1, scale 1 / (2^k - 1) (none at k = 1: {0, 1}); NaN
                        reaches no level and becomes 0, as sign(NaN) = -1
    Backward: rounding counts as the identity. k = 1 weights: the gradient of sign(w) * E|w| reaches w unchanged, with
    E held constant (a layer of zeros gets gradient 0); k > 1: it flows through tanh and through the maximum, shared
    evenly by ties. Inputs: times 1{0 <= x <= 1}.
    Gradients, `gradient_bits` = G < 32, in training: the gradient g of each sample's output, with m = max|g| and u
    uniform in [-1/2, 1/2) from torch's default generator, becomes
        2 m (q_G(clip(g / (2m) + 1/2 + u / (2^G - 1), 0, 1)) - 1/2)
    A sample with m = 0 passes unchanged. A linear layer's samples are its rows.
    Start: He's, N(0, 2 / fan_in), the default of the authors' convolutions.

    Differences: sign(0) = +1 here as in the authors' code, which truncates the start at two deviations. Larq and
    bitorch stop the gradient of the maximum. `BMXNet` has this forward from 2 bits on.
    Errors: ValueError for bits outside 1 ... 8 (gradients: 1 ... 16 or 32): a layer of 32 bits is not a low-bit layer.
    Source: arXiv 1606.06160.
    """

    start = HeNormal()

    def __init__(
        self, shape: LayerShape, *, weight_bits: int = 1, input_bits: int = 1, gradient_bits: int = REAL_GRADIENT_BITS
    ) -> None:
        super().__init__(shape)
        check_bits("DoReFa", "weight_bits", weight_bits, MOST_BITS)
        check_bits("DoReFa", "input_bits", input_bits, MOST_BITS)
        check_choice("DoReFa", "gradient_bits", gradient_bits, (*range(1, MOST_GRADIENT_BITS + 1), REAL_GRADIENT_BITS))
        self.weight_bits = weight_bits
        self.input_bits = input_bits
        self.gradient_bits = gradient_bits

    def weight(self, w: Tensor) -> Quantized:
        if self.weight_bits == 1:
            scale = w.detach().abs().mean()
            return Quantized(binarize(w, without_scale(torch.ones_like(scale), scale)), scale)
        top = _top(self.weight_bits)
        real = squashed(w) * top
        level = straight_through(torch.round(real.detach()), real)
        return Quantized(2.0 * level - top, _constant(1.0 / top, w))

    def input(self, x: Tensor) -> Quantized:
        levels = Levels(self.input_bits)
        return Quantized(estimate(x, levels), None if self.input_bits == 1 else _constant(1.0 / levels.top, x))

    def input_code(self) -> InputCode:
        return LevelsCode(self.input_bits)

    def output(self, y: Tensor) -> Tensor:
        if self.gradient_bits == REAL_GRADIENT_BITS or not self.training:
            return y
        result: Tensor = _QuantizeGradient.apply(y, self.gradient_bits)  # type: ignore[no-untyped-call]
        return result


def _top(bits: int) -> float:
    """The largest integer of `bits` bits, 2^bits - 1."""
    return float(2**bits - 1)


def _constant(value: float, like: Tensor) -> Tensor:
    return torch.full((), value, dtype=like.dtype, device=like.device)


class _QuantizeGradient(torch.autograd.Function):
    """The identity, whose gradient is rounded stochastically to `bits` bits sample by sample."""

    @staticmethod
    def forward(y: Tensor, bits: int) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.bits = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        g = grads[0]
        top = _top(ctx.bits)
        largest = g.abs().amax(dim=tuple(range(1, g.ndim)), keepdim=True)
        width = 2.0 * torch.where(largest == 0.0, 1.0, largest)
        noise = (torch.rand_like(g) - 0.5) / top
        level = torch.round((g / width + 0.5 + noise).clamp(0.0, 1.0) * top)
        rounded = torch.where(largest == 0.0, g, (level / top - 0.5) * width)
        return once(g, rounded.detach(), "a rounded gradient"), None
