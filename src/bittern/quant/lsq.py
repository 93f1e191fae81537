# SPDX-License-Identifier: Apache-2.0
"""LSQ: steps of weights and of inputs that are learned (1902.08153)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from bittern._first_batch import FirstBatchQuantizer
from bittern._options import check_bits, check_choice
from bittern.codes import Code
from bittern.quant._real_inputs import over_filter
from bittern.quant._steps import LEAST_BITS, MOST_BITS, features, learned, nearest, rounded, set_where_sound, signed
from bittern.quantizer import LayerShape, Quantized, StepsCode


class LSQ(FirstBatchQuantizer):
    """Weights and inputs of k bits in steps s that are learned, one of the weight and one of the input.

    Forward: v_q = s round_half_even(clip(v / s, -Qn, Qp)). Weights: Qn = 2^(k - 1), Qp = Qn - 1. Inputs: Qn = 0,
    Qp = 2^k - 1 (inputs="unsigned", for what a ReLU gives), or as weights ("signed"). NaN is 0.
    Backward: dv = 1{-Qn < v / s < Qp}; ds = 1/sqrt(N Qp) times the sum of g (v_q - v) / s there, of -Qn g below and of
    Qp g above, g the gradient of v_q. N: the weights of one step, or the inputs of one sample.
    Start: weights as the network's real ones. On the first batch in training s = 2 mean |v| / sqrt(Qp), of the weight
    and of that batch. Before: the same of a weight; 1 of inputs.
    scale="filter": a step of each filter, with N the weights of one.

    Differences: the paper has one step a layer, and no word on steps that fall to 0 or below: their size is used here,
    at least 1e-8. First and last layer have 8 bits there, and stay real in a converted network here. Weights of 4 bits
    lie on MegEngine's grid qint4.
    Errors: ValueError for bits outside 2 ... 8, other inputs or scales.
    Source: arXiv 1902.08153.
    """

    def __init__(
        self,
        shape: LayerShape,
        *,
        weight_bits: int = 4,
        input_bits: int = 4,
        inputs: Literal["unsigned", "signed"] = "unsigned",
        scale: Literal["layer", "filter"] = "layer",
    ) -> None:
        super().__init__(shape)
        check_bits("LSQ", "weight_bits", weight_bits, MOST_BITS, least=LEAST_BITS)
        check_bits("LSQ", "input_bits", input_bits, MOST_BITS, least=LEAST_BITS)
        check_choice("LSQ", "inputs", inputs, ("unsigned", "signed"))
        check_choice("LSQ", "scale", scale, ("layer", "filter"))
        self.weight_bits, self.input_bits = weight_bits, input_bits
        self.numbers = signed(weight_bits, scale == "filter")
        self.zero = 2 ** (input_bits - 1) if inputs == "signed" else 0
        self.weight_step = nn.Parameter(torch.ones(shape.out_channels if scale == "filter" else ()))
        """Of the layer, 0-dim, or of each filter [out_channels]."""
        self.input_step = nn.Parameter(torch.tensor(1.0))

    def weight(self, w: Tensor) -> Quantized:
        each = w.numel() // self.weight_step.numel()
        step = learned(self._weight_step(w.detach()), 1.0 / math.sqrt(each * self.numbers.high))
        step = step if step.ndim == 0 else self.shape.weight_view(step)
        position = w / step
        return Quantized(rounded(position, nearest(position, self.numbers), self.numbers), step)

    def _weight_step(self, w: Tensor) -> Tensor:
        """The step of the weight, as it is or, before the first batch in training, as it would start."""
        if not self.has_started("weight"):
            mean = w.abs().mean() if self.weight_step.ndim == 0 else w.abs().mean(over_filter(w))
            fresh = mean * (2.0 / math.sqrt(self.numbers.high))
            if not self.starts("weight"):
                return fresh
            set_where_sound(self.weight_step, fresh)
        return self.weight_step

    def weight_code(self) -> Code:
        return self.numbers

    def input(self, x: Tensor) -> Quantized:
        high = self.input_code().grid.high
        if self.starts("input") and x.numel():
            set_where_sound(self.input_step, x.detach().abs().mean() * (2.0 / math.sqrt(high)))
        step = learned(self.input_step, 1.0 / math.sqrt(features(x) * high))
        code = StepsCode(self.input_bits, step, self.zero)
        position = code.position(x)
        return Quantized(rounded(position, code.rounded(position), code.grid), step)

    def input_code(self) -> StepsCode:
        return StepsCode(self.input_bits, learned(self.input_step, 1.0), self.zero)
