# SPDX-License-Identifier: Apache-2.0
"""Networks of integers as TensorFlow Lite writes them (`.tflite`): read, and run with the very integers of LiteRT.

`load(path)` makes a packed model of an int8 network. Its answers equal those of LiteRT's reference kernels bit for bit
(docs/tflite.md names the operators, and where LiteRT's optimized kernels answer otherwise).
"""

from __future__ import annotations

from bittern.compat.tflite.load import load

__all__ = ["load"]
