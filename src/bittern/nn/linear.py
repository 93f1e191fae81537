"""Low-bit linear layer: a convolution over no space."""

from __future__ import annotations

from torch import Tensor, nn

from bittern.nn.binarize import (
    Geometry,
    check_geometry,
    check_input,
    initial_weight,
    low_bit_forward,
)
from bittern.quantizer import LayerShape, Method


class BinaryLinear(nn.Module):
    """Low-bit linear layer on x [..., in_features] -> [..., out_features], as `torch.nn.Linear` with a `method`.

    Leading dimensions are flattened into one batch, so a scale per sample is a scale per row.

    Raises: ValueError for sizes that do not fit; TypeError for an input that is not floating point.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = False, *, method: Method) -> None:
        super().__init__()
        shape = LayerShape((out_features, in_features))
        self.geometry = Geometry()
        self.method = method(shape)
        check_geometry(type(self).__name__, shape, self.geometry, self.method)
        self.weight = nn.Parameter(initial_weight(shape))
        """Latent weight [out_features, in_features]."""
        self.bias = nn.Parameter(initial_weight(LayerShape((out_features, 1)))[:, 0]) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 1:
            raise ValueError("BinaryLinear: expected an input [..., in_features]; got a scalar")
        rows = x.reshape(-1, x.shape[-1])
        check_input("BinaryLinear", rows, self.method.shape)
        y = low_bit_forward(rows, self.weight, self.bias, self.method, self.geometry)
        return y.reshape(*x.shape[:-1], y.shape[-1])

    def extra_repr(self) -> str:
        shape = self.method.shape
        return f"{shape.in_channels}, {shape.out_channels}"
