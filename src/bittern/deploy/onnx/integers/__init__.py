# SPDX-License-Identifier: Apache-2.0
"""Networks of integers as ONNX: QuantizeLinear and DequantizeLinear around ordinary operators.

graph   collects nodes and numbers of a file      nodes   what each kind of node becomes
report  how many integers a runtime has otherwise  write   the file, compared in ONNX Runtime
"""

from __future__ import annotations

from bittern.deploy.onnx.integers.report import IntegerReport
from bittern.deploy.onnx.integers.write import has_integers, integer_noise, write_integers

__all__ = ["IntegerReport", "has_integers", "integer_noise", "write_integers"]
