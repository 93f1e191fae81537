"""BNN: binarized neural networks (Courbariaux, Hubara et al. 2016, arXiv 1602.02830)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bittern.estimators import binarize, clip
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode


class BNN(Quantizer):
    """Signs of weights and inputs, no scale.

    Forward: w_q = sign(w), x_q = sign(x). With `stochastic_weights`, in training only, w_q is +1 with probability
    clip((w + 1) / 2, 0, 1).
    Backward: dL/dw = dL/dw_q (identity; the latent weight is clipped to [-1, 1] after each step),
    dL/dx = dL/dx_q * 1{|x| <= 1}.
    Differences: the authors' PyTorch code uses the identity for x too and leaves saturation to a preceding
    Hardtanh: input_gradient="released".
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
        if input_gradient not in ("paper", "released"):
            raise ValueError(f'BNN: input_gradient must be "paper" or "released"; got {input_gradient!r}')
        self.input_gradient = input_gradient
        self.stochastic_weights = stochastic_weights

    def weight(self, w: Tensor) -> Quantized:
        if self.stochastic_weights and self.training:
            chance = ((w.detach() + 1) / 2).clamp(0, 1)
            # sign(w_q - w) + w would round; shifting w by its own noise keeps the identity gradient exact
            drawn = torch.where(torch.rand_like(w) < chance, 1.0, -1.0)
            return Quantized(binarize(w - w.detach() + drawn, None))
        return Quantized(binarize(w, None))

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, clip(x) if self.input_gradient == "paper" else None))

    def input_code(self) -> InputCode:
        return SignCode()
