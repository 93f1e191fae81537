# SPDX-License-Identifier: Apache-2.0
"""Bi-Real Net: ApproxSign inputs and magnitude-aware weight gradients (1808.00278)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bittern.binary._common import check_choice, filter_mean_abs
from bittern.estimators import ApproxSign, Clip, Plateaus, binarize, without_scale
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode


class BiRealNet(Quantizer):
    """Signs of weights with a scale alpha per filter, signs of inputs with a triangular gradient.

    Forward: W_q = sign(W), alpha = mean |W| of each filter; x_q = sign(x).
    Backward: dL/dx = dL/dx_q * max(0, 2 - 2|x|); with g the gradient of the scaled weight and alpha held constant,
        "paper"     dW = g * alpha * 1{|W| < 1}, the magnitude-aware gradient
        "released"  dW = g * 1{|W| <= 1}, the authors' PyTorch code
        "caffe"     dW = g, the authors' Caffe code
    "released" and "caffe" cannot recover g for a filter of zeros (alpha = 0): its gradient is 0.

    The shortcut around every convolution, the other half of the paper, belongs to the model.
    Start: as the network's real weights; the paper takes those of a trained real network.
    Differences: sign(0) = +1 here as in the paper; the authors' code has 0 (PyTorch) or -1 (Caffe inputs). Their
    PyTorch code starts in 0.001 * U(0, 1), where every sign is +1 until the first step. The paper retrains batch
    normalization at the end so that it absorbs alpha; here packing folds alpha exactly.
    Errors: ValueError for an unknown option.
    Source: arXiv 1808.00278.
    """

    def __init__(self, shape: LayerShape, *, gradient: Literal["paper", "released", "caffe"] = "paper") -> None:
        super().__init__(shape)
        check_choice("BiRealNet", "gradient", gradient, ("paper", "released", "caffe"))
        self.gradient = gradient

    def weight(self, w: Tensor) -> Quantized:
        alpha = filter_mean_abs(w)
        if self.gradient == "paper":
            # alpha multiplies the values in the layer, so its gradient already carries the magnitude
            return Quantized(binarize(w, Clip(strict=True)), alpha)
        slope = without_scale(torch.ones_like(alpha), alpha)
        return Quantized(binarize(w, Plateaus(slope) if self.gradient == "released" else slope), alpha)

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, ApproxSign()))

    def input_code(self) -> InputCode:
        return SignCode()
