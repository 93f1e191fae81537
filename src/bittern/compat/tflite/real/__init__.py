# SPDX-License-Identifier: Apache-2.0
"""Networks of float32 as torch modules: one function an operator, layers of torch where there is one."""

from __future__ import annotations

from bittern.compat.real_network import RealNetwork
from bittern.compat.tflite.real.read import real_network

__all__ = ["RealNetwork", "real_network"]
