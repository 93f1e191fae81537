# SPDX-License-Identifier: Apache-2.0
"""A&B BNN: standardized weights with a learned gain, for networks without norms (2403.03739)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from bittern.binary._common import check_choice, check_spread_of_filter, filter_mean, filter_mean_abs, is_constant
from bittern.estimators import ErrorDecay, binarize, without_scale
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, RealCode, SignCode

EPSILON = 1e-5
"""Beside a filter's deviation, as in the authors' code."""
STEEPNESS = 1.5
"""2 s'(x), s the sigmoid of 3 x, is 1.5 (1 - tanh(1.5 x)^2)."""


class ABBNN(Quantizer):
    """Signs of weights that are standardized per filter, times a learned gain; signs of inputs with a learned shift.

    Forward, per filter of n weights: V = (W - mean(W)) / (std(W) + 1e-5) / sqrt(n), std that of all n;
    W_q = gain_o mean |V| sign(V), gain [out_channels] starting at 1. x_q = sign(x + b_c), b [in_channels] from 0.
    Backward: with g the gradient of W_q, dL/dV = gain g (|V| < 1 always, so that clipping to 1 hides nothing), mean |V|
    held constant, the standardization differentiated; dL/dgain = sum g mean |V| sign(V); dL/dx = dL/db =
    dL/dx_q * 1.5 (1 - tanh(1.5 (x + b))^2).
    Start: as the network's real weights, those of a first stage whose inputs alone are signs (`train_two_stage`).

    inputs="real": x_q = x, as the 1x1 convolutions of the authors' shortcuts have it.
    The rest of the paper belongs to the network, `models.ab_resnet18`: no norms (hence gain and sqrt(n)),
    a constant in front of each sign, which a circuit leaves out, since sign(c x + b) = sign(x + b / c) for c > 0, one
    behind each product, and `bittern.nn.PowerOfTwoRPReLU`.
    Differences: sign(0) = +1 here, 0 in the authors' code, where a filter of equal weights divides by 1e-5 and has NaN
    for a gradient; here V = 0 and its gradient is 0. Read were the abstract and the code.
    Errors: ValueError for other `inputs`, and for filters of one weight.
    Source: arXiv 2403.03739; Ruichen0424/AB-BNN Network/BNN.py, Network/ReActNet_18_Qaw.py.
    """

    def __init__(self, shape: LayerShape, *, inputs: Literal["signs", "real"] = "signs") -> None:
        super().__init__(shape)
        check_choice("ABBNN", "inputs", inputs, ("signs", "real"))
        check_spread_of_filter("ABBNN", shape)
        self.inputs = inputs
        self.gain = nn.Parameter(torch.ones(shape.out_channels))
        """[out_channels]."""
        self.shift = nn.Parameter(torch.zeros(shape.in_channels)) if inputs == "signs" else None
        """b [in_channels]: the input becomes +1 where x >= -b."""

    def weight(self, w: Tensor) -> Quantized:
        standard = self._standardized(w)
        size = filter_mean_abs(standard)
        slope = without_scale(torch.ones_like(size), size).expand_as(w)
        return Quantized(binarize(standard, slope), self.shape.weight_view(self.gain) * size)

    def _standardized(self, w: Tensor) -> Tensor:
        """V; 0 where all weights of a filter are equal."""
        constant = is_constant(w.detach())
        centered = w - filter_mean(w)
        # equal weights need not be 0 when they are centered
        centered = torch.where(constant, 0.0, centered)
        deviation = torch.where(constant, 1.0, filter_mean(centered.square())).sqrt()
        standard: Tensor = centered / (deviation + EPSILON) * self.shape.fan_in**-0.5
        return standard

    def input(self, x: Tensor) -> Quantized:
        if self.shift is None:
            return Quantized(x)
        slope = ErrorDecay(x.new_full((), STEEPNESS), x.new_full((), 1.0))
        return Quantized(binarize(x + self.shape.input_view(self.shift), slope))

    def input_code(self) -> InputCode:
        # x + b >= 0 in floating point exactly where x >= -b: a sum never rounds across or onto 0
        return RealCode() if self.shift is None else SignCode(threshold=-self.shift.detach())
