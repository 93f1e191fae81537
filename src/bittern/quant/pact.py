# SPDX-License-Identifier: Apache-2.0
"""PACT: a learned limit of inputs, and DoReFa's weights (1805.06085)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bittern._options import check_bits
from bittern._squashed import squashed
from bittern.estimators import straight_through
from bittern.quant._steps import LEAST_BITS, MOST_BITS
from bittern.quantizer import LayerShape, LevelsCode, Quantized, Quantizer

FIRST_LIMIT = 10.0
LEAST_LIMIT = 1e-5
"""What a smaller limit counts as."""


class PACT(Quantizer):
    """Inputs of k bits from 0 to a learned limit a of the layer, and weights of k bits as DoReFa-Net has them.

    Forward: inputs: x_q = a / (2^k - 1) round_half_even(clip(x / a, 0, 1) (2^k - 1)); NaN is 0.
    Weights: 2 q_k(tanh(W) / (2 max|tanh W|) + 1/2) - 1: odd integers 2m - (2^k - 1), scale 1 / (2^k - 1).
    Backward: rounding counts as the identity: dx = g 1{0 <= x < a}; da = the sum of g where x >= a, g the gradient of
    x_q. The gradient of weights flows through tanh and the maximum, as in `binary.DoReFa`.
    Start: weights as the network's real ones; a = `limit`. The paper decays a, a step towards inputs that are cut off
    early (the decay of `train.Recipe` for scales).

    Differences: a below 1e-5 counts as that. x / a is rounded before it is multiplied, where the paper has one factor.
    First and last layer have 8 bits there, and stay real in a converted network here. SAWB, the weights of a later
    paper (1807.06964), are not here: its constants were not read.
    Errors: ValueError for bits outside 2 ... 8, or a limit that is not positive and finite.
    Source: arXiv 1805.06085.
    """

    def __init__(
        self, shape: LayerShape, *, weight_bits: int = 4, input_bits: int = 4, limit: float = FIRST_LIMIT
    ) -> None:
        super().__init__(shape)
        check_bits("PACT", "weight_bits", weight_bits, MOST_BITS, least=LEAST_BITS)
        check_bits("PACT", "input_bits", input_bits, MOST_BITS, least=LEAST_BITS)
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0.0 < limit < float("inf"):
            raise ValueError(f"PACT: limit must be a positive number; got {limit!r}")
        self.weight_bits, self.input_bits = weight_bits, input_bits
        self.limit = nn.Parameter(torch.tensor(float(limit)))
        """a, 0-dim."""

    def weight(self, w: Tensor) -> Quantized:
        top = float(2**self.weight_bits - 1)
        real = squashed(w) * top
        level = straight_through(torch.round(real.detach()), real)
        return Quantized(2.0 * level - top, torch.full((), 1.0 / top, dtype=w.dtype, device=w.device))

    def input(self, x: Tensor) -> Quantized:
        code = self.input_code()
        limit, real = self._size(), x.detach()
        step = limit / code.top
        inside, above = (real >= 0) & (real < limit), real >= limit
        # only the gradient of this sum is used: 1 to x inside, and 1 to the limit above it, of numbers times the step
        moved = x * (inside.to(x.dtype) / step) + self.limit * (above.to(x.dtype) / step)
        return Quantized(straight_through(code.values(x), moved), step)

    def _size(self) -> Tensor:
        return self.limit.detach().clamp(min=LEAST_LIMIT)

    def input_code(self) -> LevelsCode:
        limit = self._size()
        return LevelsCode(self.input_bits, torch.zeros_like(limit), limit.requires_grad_(self.limit.requires_grad))
