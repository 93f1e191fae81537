# SPDX-License-Identifier: Apache-2.0
"""Packed models as ONNX: `to_onnx` (docs/onnx.md).

    low_bit    low-bit nodes as arithmetic of +-1        dialect  that arithmetic in standard ONNX, or in QONNX's nodes
    recurrent  recurrent layers as ONNX's own            open_sizes  named sizes as symbols of torch.export
    module     packed program -> torch module            graph    the module -> an ONNX model
    integers/  networks of integers, QuantizeLinear and DequantizeLinear around ordinary operators
    check      both models compared in ONNX Runtime      write    the file, verified

Nothing here imports onnx, onnxscript or onnxruntime before it is needed.
"""

from __future__ import annotations

from bittern.deploy.errors import ExportError
from bittern.deploy.onnx.dialect import ARITHMETIC, QONNX, Dialect
from bittern.deploy.onnx.integers import IntegerReport
from bittern.deploy.onnx.write import to_onnx
from bittern.deploy.part_by_part import RuntimeReport

__all__ = ["ARITHMETIC", "QONNX", "Dialect", "ExportError", "IntegerReport", "RuntimeReport", "to_onnx"]
