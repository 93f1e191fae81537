# SPDX-License-Identifier: Apache-2.0
"""Real-to-Binary: signs whose product is scaled by a gate that looks at the input (2003.11535)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.estimators import Clip, binarize
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode
from bittern.start import GlorotNormal

REDUCTION = 8
"""Input channels for each unit of the gate's hidden layer, in Larq's code."""


class RealToBinary(Quantizer):
    """Signs of weights and inputs, and a scale per output channel that is computed from each sample's input.

    Forward: W_q = sign(W), x_q = sign(x), no constant scale; with m [batch, in_channels] the mean of x over space,

        y = conv(x_q, W_q) * g,    g = sigmoid(E relu(R m)) [batch, out_channels],

    R [h, in_channels] and E [out_channels, h] real and learned, h = max(1, in_channels // reduction). A linear layer
    has no space: m is its input. A bias is added behind the scale.
    Backward: d sign(v)/dv := 1{|v| <= 1} for weights and inputs; g by autograd, into x as well.
    Latent weights are clipped to [-1, 1] after each step.
    Start: Glorot's, N(0, 2 / (fan_in + fan_out)); R and E as He says, N(0, 2 / fan_in).

    The block around it, norm in front, PReLU and shortcut behind, is `bittern.models.real_to_binary_net`.
    Differences: what was read is Larq's code, for the authors' repository holds none. Larq draws from normal
    distributions that are cut at two deviations. In it a layer of fewer than `reduction` channels has no gate's unit.
    Errors: ValueError for a reduction that is no integer of at least 1.
    Source: arXiv 2003.11535; larq/zoo, literature/real_to_bin_nets.py.
    """

    start = GlorotNormal()
    clip_latent = 1.0

    def __init__(self, shape: LayerShape, *, reduction: int = REDUCTION) -> None:
        super().__init__(shape)
        if not isinstance(reduction, int) or isinstance(reduction, bool) or reduction < 1:
            raise ValueError(f"RealToBinary: reduction must be an integer of at least 1; got {reduction!r}")
        hidden = max(1, shape.in_channels // reduction)
        self.reduce = nn.Parameter(_he(hidden, shape.in_channels))
        """R [h, in_channels]."""
        self.expand = nn.Parameter(_he(shape.out_channels, hidden))
        """E [out_channels, h]."""
        self.gate_macs = self.reduce.numel() + self.expand.numel()

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(binarize(w, Clip()))

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, Clip()))

    def input_code(self) -> InputCode:
        return SignCode()

    def gate(self, x: Tensor) -> Tensor:
        space = self.shape.space_dims
        means = x.mean(tuple(range(2, 2 + space))) if space else x
        factor = F.linear(F.relu(F.linear(means, self.reduce)), self.expand).sigmoid()
        return factor.view(*factor.shape, *(1,) * space)


def _he(outputs: int, inputs: int) -> Tensor:
    return torch.empty(outputs, inputs).normal_(0.0, math.sqrt(2.0 / inputs))
