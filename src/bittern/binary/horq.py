# SPDX-License-Identifier: Apache-2.0
"""HORQ: inputs as a sum of scaled signs, each of what the ones before leave (1708.08687)."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.binary._common import check_bits, check_choice, filter_mean_abs
from bittern.estimators import Clip, Plateaus, binarize, straight_through, without_scale
from bittern.quantizer import InputCode, InputScale, LayerShape, Quantized, Quantizer, SignCode
from bittern.start import HeNormal

MOST_ORDERS = 8
SCALES = (InputScale.SPATIAL, InputScale.PER_SAMPLE)


class HORQ(Quantizer):
    """XNOR-Net with inputs of `order` planes of signs, each with a scale of its own.

    Forward: R_0 = x; H_i = sign(R_(i-1)), beta_i = mean |R_(i-1)|, R_i = R_(i-1) - beta_i H_i, so x is about the sum of
    beta_i H_i, i = 1 ... order. W_q = sign(W), alpha = mean |W| of each filter of n weights. The output is the sum of
    alpha * K_i * conv(H_i, W_q), with K_i of `input_scale` as XNOR-Net's K:
        SPATIAL     beta_i of each pixel, over its channels, box-averaged over each receptive field
        PER_SAMPLE  beta_i of each sample, one number: then the sum is the very convolution of the sum of beta_i H_i
    With order=1 this is XNOR-Net. With groups, beta is still over all channels.

    Backward, with g the gradient of the scaled weight: dW_j = g_j * (1/n + alpha * 1{|W_j| <= 1}), as XNOR-Net. beta_i
    is held constant, and R_i moves as x does, so dL/dx = sum_i dL/dH_i * 1{|R_(i-1)| <= 1}.
    Start: He's, N(0, 2 / fan_in), as XNOR-Net.

    Differences: the paper scales each patch that a filter sees by itself. From order 2 on a patch's residual is then
    its own, and so are the signs of a pixel in each patch that it lies in: patches share no plane of bits that could be
    counted. That granularity is not offered. The paper's full text and code were not found: that the gradient passes
    each residual as if it were x is this library's choice. sign(0) = +1.
    Errors: ValueError for an order outside 1 ... 8, and for an input scale that is none of the two.
    Source: arXiv 1708.08687.
    """

    start = HeNormal()

    def __init__(self, shape: LayerShape, *, order: int = 2, input_scale: InputScale = InputScale.SPATIAL) -> None:
        super().__init__(shape)
        check_bits("HORQ", "order", order, MOST_ORDERS)
        check_choice("HORQ", "input_scale", input_scale, SCALES)
        self.order = order
        self.input_scale = input_scale
        self.input_bits = order

    def weight(self, w: Tensor) -> Quantized:
        alpha = filter_mean_abs(w)
        inside, outside = (without_scale(1.0 / self.shape.fan_in + a, alpha) for a in (alpha, torch.zeros_like(alpha)))
        return Quantized(binarize(w, Plateaus(inside, outside)), alpha)

    def input(self, x: Tensor) -> tuple[Quantized, ...]:
        found, rest = [], x
        for _ in range(self.order):
            plain = rest.detach()
            found.append(Quantized(binarize(rest, Clip()), self.input_scale.mean(plain)))
            rest = straight_through(self.input_scale.residual(plain), rest)
        return tuple(found)

    def input_code(self) -> tuple[InputCode, ...]:
        return tuple(SignCode(scale=self.input_scale, order=i) for i in range(self.order))
