"""Low-bit layers, conversion of existing models, and their cost summary."""

from __future__ import annotations

from bittern.nn.conv import BinaryConv1d, BinaryConv2d
from bittern.nn.linear import BinaryLinear

__all__ = ["BinaryConv1d", "BinaryConv2d", "BinaryLinear"]
