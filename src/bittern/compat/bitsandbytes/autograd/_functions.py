# SPDX-License-Identifier: Apache-2.0
"""`bitsandbytes.autograd._functions`, where bitsandbytes defines its products: the same functions as at the top."""

from __future__ import annotations

from bittern.compat.bitsandbytes._matmul import MatmulLtState, matmul, matmul_4bit

__all__ = ["MatmulLtState", "matmul", "matmul_4bit"]
