# SPDX-License-Identifier: Apache-2.0
"""Linear8bit: a frozen linear layer that multiplies in int8 (LLM.int8())."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from bittern.codes import Code, Integers, PerOutputChannel
from bittern.nn._frozen import FrozenLinear, not_finite, weight_of
from bittern.ops.linear_8bit import MOST_COLUMNS, linear_8bit
from bittern.ops.linear_8bit.reference import LEVELS, row_codes

THRESHOLD = 6.0
"""Magnitude of an activation from which on its column is an outlier, as in LLM.int8()."""


class Linear8bit(FrozenLinear):
    """x W^T + bias with W frozen in int8 by rows and x quantized to int8 by rows, but for its outlier columns.

    x: [..., in_features] float32, bfloat16 or float16 -> [..., out_features] of x's dtype; formula: `ops.linear_8bit`.
    threshold: columns of x with a magnitude of at least this are multiplied in float32; 0 is off.
    Storage per weight: 8 bits + 32 / in_features. W has no gradient; x and bias have, as if x were not quantized.
    `.half()` and its like cast the bias alone; the scales stay float32.
    Second and higher derivatives, forward mode and torch.func work too.
    Errors: ValueError for sizes that do not fit, more than 133,144 in_features, or a weight that is not finite;
    TypeError for another dtype of x.
    Reference: LLM.int8() (arXiv:2208.07339).
    """

    weight: Tensor
    scale: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        threshold: float = THRESHOLD,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._fill(nn.Linear(in_features, out_features, bias, device, dtype), threshold)

    @classmethod
    def from_float(cls, linear: nn.Linear, *, threshold: float = THRESHOLD) -> Self:
        """The layer that holds the nearest int8 codes of `linear`'s rows; it shares the bias."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._fill(linear, threshold)
        return layer.train(linear.training)

    def _fill(self, linear: nn.Linear, threshold: float) -> None:
        if not threshold >= 0:
            raise ValueError(f"Linear8bit: threshold must be 0 (off) or positive; got {threshold}; 6 is the paper's")
        weight = weight_of("Linear8bit", linear).float()
        if linear.in_features > MOST_COLUMNS:
            raise ValueError(
                f"Linear8bit: int32 sums hold at most {MOST_COLUMNS} in_features; got {linear.in_features}; "
                "use Linear4bit"
            )
        if not_finite(weight):
            raise ValueError("Linear8bit: linear.weight must be finite as float32; got larger numbers; scale it down")
        self.in_features, self.out_features, self.threshold = linear.in_features, linear.out_features, float(threshold)
        codes, _ = row_codes(weight)
        self.register_buffer("weight", codes.to(torch.int8))
        self.register_buffer("scale", weight.abs().amax(1) if weight.numel() else weight.new_zeros(weight.shape[0]))
        self.bias = linear.bias

    def weight_code(self) -> Code:
        """The numbers of `weight`; their scale is `scale` / 127."""
        return Integers(-int(LEVELS), int(LEVELS), scale=PerOutputChannel())

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """W [out_features, in_features]: weight * scale / 127, rounded to `dtype`."""
        return (self.weight * (self.scale * (1 / LEVELS)).unsqueeze(1)).to(dtype)

    def check_codes(self) -> None:
        """As for every frozen layer; int8 has one number more than codes."""
        super().check_codes()
        code = self.weight_code()
        if not code.contains(self.weight):
            raise ValueError(f"Linear8bit: codes must lie in {code.low} ... {code.high}; got {int(self.weight.min())}")
        if bool((self.scale < 0).any()):
            raise ValueError(f"Linear8bit: scales must be at least 0; got {float(self.scale.min())}")

    def forward(self, x: Tensor) -> Tensor:
        self.check_input(x)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return linear_8bit.direct(x, self.weight, self.scale, bias, self.threshold)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, threshold={self.threshold}"
