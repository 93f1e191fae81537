# SPDX-License-Identifier: Apache-2.0
"""Networks as TensorFlow Lite writes them (`.tflite`): read, and run, integers with the very integers of LiteRT.

`load(path)` makes a packed model of an int8 network. Its answers equal those of LiteRT's reference kernels bit for bit
(docs/tflite.md names the operators, and where LiteRT's optimized kernels answer otherwise). A float32 network becomes
real nodes, or with `load_module(path)` layers of torch, which `bittern.quantize` takes.
"""

from __future__ import annotations

from bittern.compat.tflite.load import load, load_module

__all__ = ["load", "load_module"]
