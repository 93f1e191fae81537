# SPDX-License-Identifier: Apache-2.0
"""BNN+: BNN with the gradient of a swish-like function for its inputs (1812.11800)."""

from __future__ import annotations

from torch import Tensor

from bittern.binary._common import check_limit
from bittern.estimators import SwishSign, binarize
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode
from bittern.start import Uniform

BETA = 5.0
"""Larq's default."""


class BNNPlus(Quantizer):
    """Signs of weights and inputs, no scale; the input's gradient is that of SignSwish.

    Forward: w_q = sign(w), x_q = sign(x).
    Backward: dL/dw = dL/dw_q (identity; the latent weight is clipped to [-clip_latent, clip_latent] after each step),
    dL/dx = dL/dx_q * beta (2 - beta x tanh(beta x / 2)) / (1 + cosh(beta x)), which is beta at 0 and negative beyond
    |x| = 2.4 / beta.
    Start: U(-1, 1), as BNN.

    beta: how steep; 5 is Larq's.
    Differences: the paper adds a regularizer to the loss, with learned scales, that pulls weights towards +-alpha; a
    loss is no part of a method here, and what the paper does to weights beyond it was not read: they are BNN's.
    Read were the abstract and Larq's quantizer. The estimator has no kernel of its own.
    Errors: ValueError unless beta and clip_latent are positive and finite (clip_latent: or None).
    Source: arXiv 1812.11800.
    """

    start = Uniform(1.0)

    def __init__(self, shape: LayerShape, *, beta: float = BETA, clip_latent: float | None = 1.0) -> None:
        super().__init__(shape)
        check_limit("BNNPlus", "beta", beta)
        check_limit("BNNPlus", "clip_latent", clip_latent, optional=True)
        self.beta = beta
        self.clip_latent = clip_latent

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(binarize(w))

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, SwishSign(self.beta)))

    def input_code(self) -> InputCode:
        return SignCode()
