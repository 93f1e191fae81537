# SPDX-License-Identifier: Apache-2.0
"""BiPer: weights binarized by a square wave, with a sine wave's gradient (2404.01278)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from bittern.binary._common import check_choice, check_limit
from bittern.binary._samples import sample_sign
from bittern.codes import Reals, Signs
from bittern.estimators import binarize
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode, WeightCode
from bittern.start import HeNormal

FREQUENCY = 20.0
"""The frequency omega of the authors' runs."""


class BiPer(Quantizer):
    """The weight's square wave, whose sign changes every pi / omega; a learned scale per filter.

    Forward: W_q = sign(sin(omega W)) (stage=2) or, real, sin(omega W) (stage=1); scale alpha [out], learned, starting
    uniform in (0, 1). x_q = sign(x).
    Backward: dL/dW = dL/dW_q * omega cos(omega W) in both stages. Inputs as ReCU's: in training, with
    x1 = x / sqrt(var(x) + 1e-5) over each sample, dL/dx1 = dL/dx_q * max(0, 2 - 2|x1|), and x1 is differentiated; in
    eval mode x1 = x.
    Start: He's, N(0, 2 / fan_in), as the authors' ResNet-20.

    frequency: omega; 20 in the authors' runs, whose code defaults to 30.
    stage: the authors train with stage=1 first and load the result into stage=2, which packs; both have one state.
    Differences: the authors add a multiple of the mean of sin(omega W)^2 to the loss, which is no part of a method
    here but train.WaveRegularizer. sign(0) = +1 here, 0 there. Only code and abstract were read.
    Errors: ValueError for samples of one value, an unknown stage, or unless 0 < frequency < infinity.
    Source: arXiv 2404.01278 (CVPR 2024).
    """

    start = HeNormal()

    def __init__(self, shape: LayerShape, *, frequency: float = FREQUENCY, stage: Literal[1, 2] = 2) -> None:
        super().__init__(shape)
        check_limit("BiPer", "frequency", frequency)
        check_choice("BiPer", "stage", stage, (1, 2))
        self.frequency = frequency
        self.stage = stage
        self.alpha = nn.Parameter(torch.rand(shape.out_channels))
        """Learned scale [out_channels]."""

    def weight(self, w: Tensor) -> Quantized:
        wave = torch.sin(self.frequency * w)
        return Quantized(wave if self.stage == 1 else binarize(wave), self.shape.weight_view(self.alpha))

    def weight_code(self) -> WeightCode:
        return Reals() if self.stage == 1 else Signs()

    def input(self, x: Tensor) -> Quantized:
        return Quantized(sample_sign("BiPer", x, training=self.training))

    def input_code(self) -> InputCode:
        return SignCode()


def use_real_waves(model: nn.Module) -> nn.Module:
    """Put every `BiPer` layer of `model` into its first stage, in place; returns `model`, of the same state.

    Raises: ValueError where there is none.
    """
    found = [module for module in model.modules() if isinstance(module, BiPer)]
    if not found:
        raise ValueError("use_real_waves: the model has no layer of BiPer; give it some, or leave this out")
    for method in found:
        method.stage = 1
    return model
