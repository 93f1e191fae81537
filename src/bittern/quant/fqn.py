# SPDX-License-Identifier: Apache-2.0
"""FQN: integers of 4 bits whose ranges leave out the largest inputs, for detectors (CVPR 2019, Li et al.)."""

from __future__ import annotations

import math

from torch import Tensor

from bittern.quant.integer_only import IntegerOnly
from bittern.quantizer import LayerShape


class FQN(IntegerOnly):
    """Inputs on an affine grid between two quantiles, and weights of each filter on a grid of its own, for fine-tuning.

    Forward: as `IntegerOnly`, but the ends of a batch's range are its quantiles 1 - `quantile` and `quantile`, widened
    to hold 0. The first `batches` batches of training leave inputs real and give the mean of their ends; from then on
    the ends move by 1 - `decay` a batch. Weights: S = max |W| of each filter over 2^(k - 1) - 1, symmetric.
    Backward: dv = 1 where v / S rounds to a number of the range, else 0; S and Z are held constant.
    Start: a trained network, whose batch norms keep their statistics (`bittern.nn.freeze_norms`).

    Differences: the paper was not read; this follows descriptions of it: quantiles of 0.999 over 20 batches, scales by
    channel, norms that are frozen and folded, gradients clipped as inputs are. Weights have no zero point here, norms
    stay behind the layer, gradients are not clipped, and sums, pools and upsampling between layers stay real. A
    quantile is the number at place ceil(q n) of a batch's n sorted numbers.
    Errors: ValueError for bits outside 2 ... 8, a quantile outside (0.5, 1], a decay outside [0, 1), batches below 1.
    Source: "Fully Quantized Network for Object Detection", CVPR 2019; arXiv 1712.05877 for the grids.
    """

    def __init__(
        self,
        shape: LayerShape,
        *,
        weight_bits: int = 4,
        input_bits: int = 4,
        quantile: float = 0.999,
        batches: int = 20,
        decay: float = 0.99,
    ) -> None:
        if isinstance(quantile, bool) or not isinstance(quantile, int | float) or not 0.5 < quantile <= 1.0:
            raise ValueError(f"FQN: quantile must be a number above 0.5, 1 at most; got {quantile!r}")
        if not isinstance(batches, int) or isinstance(batches, bool) or batches < 1:
            raise ValueError(f"FQN: batches must be an integer from 1 on; got {batches!r}")
        super().__init__(shape, weight_bits=weight_bits, input_bits=input_bits, rule="int8", decay=decay, delay=batches)
        self.quantile = float(quantile)

    def range_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        numbers = x.flatten()
        most = math.ceil(self.quantile * numbers.numel())
        high = numbers.kthvalue(most).values
        return -(-numbers).kthvalue(most).values, high

    def kept(self, seen: int) -> float:
        return seen / (seen + 1) if seen < self.delay else self.decay
