# SPDX-License-Identifier: Apache-2.0
"""Ternary weight networks: -1, 0 and +1 with one scale, and real inputs (1605.04711)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bittern._options import check_choice
from bittern.codes import Code, PerOutputChannel, PerTensor, Ternary
from bittern.estimators import straight_through, without_scale
from bittern.quant._real_inputs import RealInputs, check_share, over_filter
from bittern.quantizer import LayerShape, Quantized


class TWN(RealInputs):
    """Weights of three levels, those whose sum of squared errors is nearly the least, with real inputs.

    Forward: D = threshold * mean |W|, t = +1 where W > D, -1 where W < -D, else 0; a = mean |W| over the weights with
    t != 0; w_q = a t, x_q = x. Means are those of the layer (scale="layer", the paper) or of each filter ("filter").
    Backward: the gradient of a t reaches W unchanged, with a held constant. Where a is 0, as in a layer of zeros, that
    gradient cannot be told from a product with it, and is 0. dL/dx = dL/dx_q.
    Start: as the network's real weights.

    Differences: none known. The paper derives 0.7 as nearly the best threshold of uniform and of normal weights.
    Errors: ValueError for a threshold outside [0, 1) or another scale.
    Source: arXiv 1605.04711.
    """

    def __init__(
        self, shape: LayerShape, *, threshold: float = 0.7, scale: Literal["layer", "filter"] = "layer"
    ) -> None:
        super().__init__(shape)
        check_share("TWN", "threshold", threshold)
        check_choice("TWN", "scale", scale, ("layer", "filter"))
        self.threshold = threshold
        self.scale = scale

    def weight(self, w: Tensor) -> Quantized:
        real = w.detach()
        size, layer = real.abs(), self.scale == "layer"
        mean = size.mean() if layer else size.mean(over_filter(w), keepdim=True)
        kept = (size > self.threshold * mean).to(w.dtype)
        held = size * kept
        total, count = (n.sum() if layer else n.sum(over_filter(w), keepdim=True) for n in (held, kept))
        scale = total / count.clamp(min=1.0)
        values = torch.where(real < 0, -kept, kept)
        return Quantized(straight_through(values, w, without_scale(torch.ones_like(scale), scale)), scale)

    def weight_code(self) -> Code:
        return Ternary(PerTensor() if self.scale == "layer" else PerOutputChannel())
