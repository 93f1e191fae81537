# SPDX-License-Identifier: Apache-2.0
"""Quantized networks as ONNX writes them (`.onnx`), read into packed networks of integers.

`load(path)` reads int8 networks of QuantizeLinear and DequantizeLinear around ordinary operators (QDQ), and of
operators of integers such as QLinearConv (docs/onnx.md). Needs `pip install 'bittern[onnx]'`.
"""

from __future__ import annotations

from bittern.compat.onnx.load import load

__all__ = ["load"]
