# SPDX-License-Identifier: Apache-2.0
"""Low-bit linear layer: a convolution over no space."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from bittern._autocast import in_own_precision
from bittern.nn._layer_checks import check_input
from bittern.nn.binarize import LowBitLayer, low_bit_forward
from bittern.nn.geometry import Geometry
from bittern.quantizer import LayerShape, Method, Quantized, weight_terms

QuantizedWeight = tuple[Quantized, ...]
"""The terms of a weight: values and scale of each."""


class BinaryLinear(LowBitLayer):
    """Low-bit linear layer on x [..., in_features] -> [..., out_features], as `torch.nn.Linear` with a `method`.

    Leading dimensions are flattened into one batch, so a scale per sample is a scale per row.

    Raises: ValueError for sizes that do not fit; TypeError for an input that is not floating point.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = False, *, method: Method) -> None:
        super().__init__(LayerShape((out_features, in_features)), Geometry(), bias=bias, method=method)

    @classmethod
    def from_float(cls, linear: nn.Module, *, method: Method) -> Self:
        """The layer that takes the place of an nn.Linear; it shares the weight and the bias. Raises: TypeError."""
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"{cls.__name__}: it takes the place of an nn.Linear; got {type(linear).__name__}")
        layer = cls(linear.in_features, linear.out_features, linear.bias is not None, method=method)
        return layer.taking_over(linear)

    @property
    def in_features(self) -> int:
        return self.method.shape.in_channels

    @property
    def out_features(self) -> int:
        return self.method.shape.out_channels

    @in_own_precision
    def quantized_weight(self) -> QuantizedWeight:
        """The terms of the weight, for several calls with one and the same weight."""
        return weight_terms(self.method, self.weight)

    @in_own_precision
    def forward(self, x: Tensor, weight: QuantizedWeight | None = None) -> Tensor:
        """weight: what `quantized_weight` gives, so that it need not be found again; None: it is."""
        given = () if weight is None else (weight,)
        return self.gated(self.product(self.operand(x), *given), x)

    def product(self, x: Tensor, weight: QuantizedWeight | None = None) -> Tensor:
        features = self.in_features
        if x.ndim < 1 or x.shape[-1] != features:
            raise ValueError(f"BinaryLinear: expected an input [..., {features}]; got {list(x.shape)}")
        rows = x.reshape(-1, features)
        check_input("BinaryLinear", rows, self.method.shape)
        terms = self.quantized_weight() if weight is None else weight
        y = low_bit_forward(rows, terms, self.product_bias, self.method, self.geometry, self.accumulate)
        return y.reshape(*x.shape[:-1], y.shape[-1])

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"
