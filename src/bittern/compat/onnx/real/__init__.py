# SPDX-License-Identifier: Apache-2.0
"""Networks of float32 as torch modules.

reader   what each name stands for, and how moves of numbers come together     moves    what moves do to numbers
layers   what becomes of each operator that computes                           windows  convolutions, pools, resizing
"""

from __future__ import annotations

from bittern.compat.onnx.real.network import is_real, real_network

__all__ = ["is_real", "real_network"]
