# SPDX-License-Identifier: Apache-2.0
"""Networks as ONNX writes them (`.onnx`), read into packed networks, or into layers of torch.

`load(path)` reads int8 networks of QuantizeLinear and DequantizeLinear around ordinary operators (QDQ), and of
operators of integers such as QLinearConv, into networks of integers; `load` and `load_module(path)` read networks of
float32 (docs/onnx.md). Needs `pip install 'bittern[onnx]'`.
"""

from __future__ import annotations

from bittern.compat.onnx.load import load, load_module

__all__ = ["load", "load_module"]
