"""BNN: binarized neural networks (Courbariaux, Hubara et al. 2016, arXiv 1602.02830)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bittern.binary._common import check_choice
from bittern.estimators import binarize, clip, straight_through
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode


class BNN(Quantizer):
    """Signs of weights and inputs, no scale.

    Forward: w_q = sign(w), x_q = sign(x). With `stochastic_weights`, in training only, w_q is +1 with probability
    clip((w + 1) / 2, 0, 1), drawn from torch's default generator.
    Backward: dL/dw = dL/dw_q (identity; the latent weight is clipped to [-1, 1] after each step),
    dL/dx = dL/dx_q * 1{|x| <= 1}.
    Differences: the authors' PyTorch code uses the identity for x too and leaves saturation to a preceding
    Hardtanh: input_gradient="released". Their Theano code also scales each layer's optimizer step by its Glorot
    factor, which is a matter of learning rates and not done here.
    Errors: ValueError for an unknown option.
    Source: arXiv 1602.02830.
    """

    clip_latent = 1.0

    def __init__(
        self,
        shape: LayerShape,
        *,
        input_gradient: Literal["paper", "released"] = "paper",
        stochastic_weights: bool = False,
    ) -> None:
        super().__init__(shape)
        check_choice("BNN", "input_gradient", input_gradient, ("paper", "released"))
        check_choice("BNN", "stochastic_weights", stochastic_weights, (False, True))
        self.input_gradient = input_gradient
        self.stochastic_weights = stochastic_weights

    def weight(self, w: Tensor) -> Quantized:
        if not (self.stochastic_weights and self.training):
            return Quantized(binarize(w))
        chance = ((w.detach() + 1.0) / 2.0).clamp(0.0, 1.0)
        drawn = torch.where(torch.rand_like(chance) < chance, 1.0, -1.0).to(w.dtype)
        return Quantized(straight_through(drawn, w))

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, clip(x) if self.input_gradient == "paper" else None))

    def input_code(self) -> InputCode:
        return SignCode()
