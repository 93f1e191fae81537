# SPDX-License-Identifier: Apache-2.0
"""Dynamic fixed point, as in Ristretto: a number of integer bits of each layer's weights and inputs (1604.03168)."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern._first_batch import FirstBatchQuantizer
from bittern._options import check_bits
from bittern.codes import Code
from bittern.estimators import straight_through
from bittern.quant._steps import LEAST_BITS, MOST_BITS, nearest, signed
from bittern.quantizer import LayerShape, Quantized, StepsCode


class DynamicFixedPoint(FirstBatchQuantizer):
    """Weights and inputs of k bits in steps that are powers of two, chosen once from the largest of each.

    Forward: with IL integer bits, sign included, and s = 2^(IL - k):
    v_q = s clip(round_half_even(v / s), -2^(k - 1), 2^(k - 1) - 1). Weights: IL = ceil(log2(max |W|) + 1). Inputs:
    IL = ceil(log2 max |x|), a bit less, so that the largest saturate. NaN is 0.
    Backward: the identity, also for what saturates.
    Start: weights as the network's real ones. IL of weights is that of the first batch in training, and stays; the
    largest input is that of the first `batches`. Before: the same of a weight; of inputs IL = 1.

    Differences: Ristretto rounds ties away from 0, or at random; here to even. It finds IL in a trained network before
    it trains on, and searches bits of all convolutions, all linear layers and all inputs apart: the largest of 16, 8, 4
    and 2 that keep the accuracy. That search is the caller's here.
    Errors: ValueError for bits outside 2 ... 8, or batches that are no integer from 1 on.
    Source: arXiv 1604.03168; pmgysel/caffe src/caffe/ristretto/quantization.cpp.
    """

    weight_length: Tensor
    input_largest: Tensor
    seen: Tensor

    def __init__(self, shape: LayerShape, *, weight_bits: int = 8, input_bits: int = 8, batches: int = 10) -> None:
        super().__init__(shape)
        check_bits("DynamicFixedPoint", "weight_bits", weight_bits, MOST_BITS, least=LEAST_BITS)
        check_bits("DynamicFixedPoint", "input_bits", input_bits, MOST_BITS, least=LEAST_BITS)
        if not isinstance(batches, int) or isinstance(batches, bool) or batches < 1:
            raise ValueError(f"DynamicFixedPoint: batches must be an integer from 1 on; got {batches!r}")
        self.weight_bits, self.input_bits, self.batches = weight_bits, input_bits, batches
        self.numbers = signed(weight_bits, by_filter=False)
        self.register_buffer("weight_length", torch.tensor(1.0))
        """IL of the weight."""
        self.register_buffer("input_largest", torch.tensor(0.0))
        self.register_buffer("seen", torch.tensor(0))
        """Batches whose largest input was taken."""
        self._left = batches  # asking a buffer takes a GPU's time at every call

    def was_loaded(self) -> None:
        super().was_loaded()
        self._left = self.batches - int(self.seen)

    def weight(self, w: Tensor) -> Quantized:
        step = _step(self._weight_length(w.detach()), self.weight_bits).to(w.dtype)
        return Quantized(straight_through(nearest(w / step, self.numbers), w, 1.0 / step), step)

    def _weight_length(self, w: Tensor) -> Tensor:
        if not self.has_started("weight"):
            length = _length(w.abs().amax(), 1.0)
            if not self.starts("weight"):
                return length
            self.weight_length.copy_(length)
        return self.weight_length

    def weight_code(self) -> Code:
        return self.numbers

    def input(self, x: Tensor) -> Quantized:
        if self.training and self._left > 0 and x.numel():
            self._left -= 1
            self.seen += 1
            self.input_largest.copy_(torch.maximum(self.input_largest, x.detach().abs().amax().nan_to_num(0.0, 0.0)))
        code = self.input_code()
        step = code.step.to(x.dtype)
        return Quantized(straight_through(code.values(x), x, 1.0 / step), step)

    def input_code(self) -> StepsCode:
        length = _length(self.input_largest, 0.0)
        return StepsCode(self.input_bits, _step(length, self.input_bits), 2 ** (self.input_bits - 1))


def _length(largest: Tensor, more: float) -> Tensor:
    """IL of numbers up to `largest`; 1 where that is 0 or no number."""
    sound = largest.isfinite() & (largest > 0.0)
    return torch.where(sound, (torch.where(sound, largest, 1.0).log2() + more).ceil(), 1.0)


def _step(length: Tensor, bits: int) -> Tensor:
    """2^(IL - bits), exactly."""
    exponent = length.clamp(-64.0, 64.0) - bits
    return torch.ldexp(torch.ones_like(exponent), exponent.to(torch.int32))
