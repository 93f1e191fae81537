# SPDX-License-Identifier: Apache-2.0
"""ABC-Net: weights as a least-squares sum of signs, inputs as several signs with learned shifts (1711.11294)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bittern.binary._common import check_bits
from bittern.codes import Code, Signs
from bittern.estimators import Clip, Identity, binarize
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode

MOST_TERMS = 8
RIDGE = 1e-6
"""Added to the diagonal of the bases' mean products, which is 1."""


class ABCNet(Quantizer):
    """`bases` planes of signs of the weight times `activations` planes of signs of the input: so many products.

    Forward, with the mean and the deviation (of all, not of all but one) of the layer's weights:
        B_i = sign(W - mean(W) + u_i std(W)),  u_i = -1 + 2 (i - 1) / (bases - 1), 0 where bases = 1
        alpha = the least-squares solution of W = sum_i alpha_i B_i: (B'B / n + ridge) alpha = B'W / n, in float64,
                one alpha a layer; with `per_filter` one for each filter, from its own weights
        A_j = +1 where clip(x + v_j, 0, 1) >= 1/2, that is where x >= 1/2 - v_j, else -1
        y = sum_j sum_i alpha_i beta_j conv(A_j, B_i)
    v and beta [activations] are learned.
    Backward: alpha, mean and deviation are held constant, dB_i/dW := 1, so dW = sum_i alpha_i g_i with g_i the gradient
    of the scaled basis; dA_j/dx = dA_j/dv_j := 1{0 <= x + v_j <= 1}.
    Start: as the network's real weights. beta_j = 1 / activations; v_j such that the thresholds 1/2 - v_j divide
    -1 ... 1 evenly, 0 for one.

    Differences: the ridge of 1e-6 is this library's: few different weights have bases that are equal, which have no
    unique solution. The start of v and beta is this library's as well; the paper's text was not found, the formulas are
    those of implementations by others. 1/2 - v is rounded before it is compared with x. sign(0) = +1.
    Errors: ValueError for numbers outside 1 ... 8.
    Source: arXiv 1711.11294.
    """

    def __init__(self, shape: LayerShape, *, bases: int = 3, activations: int = 3, per_filter: bool = False) -> None:
        super().__init__(shape)
        check_bits("ABCNet", "bases", bases, MOST_TERMS)
        check_bits("ABCNet", "activations", activations, MOST_TERMS)
        self.bases, self.activations, self.per_filter = bases, activations, per_filter
        self.input_bits = activations
        thresholds = torch.arange(1, activations + 1) * (2.0 / (activations + 1)) - 1.0
        self.shift = nn.Parameter(0.5 - thresholds)
        """v [activations]."""
        self.scale = nn.Parameter(torch.full((activations,), 1.0 / activations))
        """beta [activations]."""

    def weight(self, w: Tensor) -> tuple[Quantized, ...]:
        plain = w.detach()
        mean, deviation = plain.mean(), plain.std(correction=0)
        step = 2.0 / max(1, self.bases - 1)
        shifts = [mean - deviation * (step * i - 1.0 if self.bases > 1 else 0.0) for i in range(self.bases)]
        values = [binarize(w - shift, Identity()) for shift in shifts]
        alpha = self._least_squares(plain, values)
        view = (-1, *(1,) * (w.ndim - 1)) if self.per_filter else ()
        return tuple(Quantized(v, alpha[..., i].reshape(view)) for i, v in enumerate(values))

    def _least_squares(self, w: Tensor, values: list[Tensor]) -> Tensor:
        """[bases], or [out, bases] per filter."""
        rows = 1 if not self.per_filter else len(w)
        bases = torch.stack([v.detach().reshape(rows, -1) for v in values], 1).double()
        count = bases.shape[2]
        products = bases @ bases.mT / count + RIDGE * torch.eye(self.bases, dtype=torch.float64, device=w.device)
        target = bases @ w.reshape(rows, -1, 1).double() / count
        alpha: Tensor = torch.linalg.solve(products, target).squeeze(2).to(w.dtype)
        return alpha if self.per_filter else alpha[0]

    def weight_code(self) -> tuple[Code, ...]:
        return (Signs(),) * self.bases

    def input(self, x: Tensor) -> tuple[Quantized, ...]:
        return tuple(
            Quantized(binarize(x - (0.5 - self.shift[j]), Clip(limit=0.5)), self.scale[j])
            for j in range(self.activations)
        )

    def input_code(self) -> tuple[InputCode, ...]:
        channels = self.shape.in_channels
        return tuple(SignCode((0.5 - self.shift[j]).expand(channels)) for j in range(self.activations))
