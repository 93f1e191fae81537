# SPDX-License-Identifier: Apache-2.0
"""BNN: binarized neural networks (Courbariaux, Hubara et al. 2016, arXiv 1602.02830)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bittern.binary._common import check_choice, check_limit
from bittern.estimators import Clip, binarize, straight_through
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode
from bittern.start import Uniform


class BNN(Quantizer):
    """Signs of weights and inputs, no scale.

    Forward: w_q = sign(w), x_q = sign(x). With `stochastic_weights`, in training only, w_q is +1 with probability
    clip((w + 1) / 2, 0, 1), drawn from torch's default generator.
    Backward: dL/dw = dL/dw_q (identity; the latent weight is clipped to [-clip_latent, clip_latent] after each step),
    dL/dx = dL/dx_q * 1{|x| <= limit}.
    Start: U(-1, 1), the authors' Theano code (H = 1). Its learning rates, scaled by the Glorot factor of each layer
    (`Recipe(glorot_rates=True)`), presume it: from weights as small as torch's they flip most signs in one step.

    limit, clip_latent: 1 in the paper. Larq's networks use other numbers, the same for both: 1.25 in QuickNet, 1.3 in
    BinaryDenseNet and MeliusNet; BNext, in the authors' code, 1.5.
    Differences: the authors' PyTorch code uses the identity for x too and leaves saturation to a preceding
    Hardtanh: input_gradient="released". sign(0) = +1 here as for their Theano inputs; their PyTorch code has 0.
    Errors: ValueError for an unknown option, and for a limit together with input_gradient="released", which has none.
    Source: arXiv 1602.02830.
    """

    start = Uniform(1.0)

    def __init__(
        self,
        shape: LayerShape,
        *,
        input_gradient: Literal["paper", "released"] = "paper",
        stochastic_weights: bool = False,
        limit: float = 1.0,
        clip_latent: float | None = 1.0,
    ) -> None:
        super().__init__(shape)
        check_choice("BNN", "input_gradient", input_gradient, ("paper", "released"))
        check_choice("BNN", "stochastic_weights", stochastic_weights, (False, True))
        check_limit("BNN", "limit", limit)
        check_limit("BNN", "clip_latent", clip_latent, optional=True)
        if input_gradient == "released" and limit != 1.0:
            raise ValueError(
                f'BNN: limit={limit} has no effect with input_gradient="released", whose gradient has no limit; '
                "drop one of them"
            )
        self.limit = limit
        self.clip_latent = clip_latent
        self.input_gradient = input_gradient
        self.stochastic_weights = stochastic_weights

    def weight(self, w: Tensor) -> Quantized:
        if not (self.stochastic_weights and self.training):
            return Quantized(binarize(w))
        chance = ((w.detach() + 1.0) / 2.0).clamp(0.0, 1.0)
        drawn = torch.where(torch.rand_like(chance) < chance, 1.0, -1.0).to(w.dtype)
        return Quantized(straight_through(drawn, w))

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, Clip(self.limit) if self.input_gradient == "paper" else None))

    def input_code(self) -> InputCode:
        return SignCode()
