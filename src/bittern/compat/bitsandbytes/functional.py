# SPDX-License-Identifier: Apache-2.0
"""`bitsandbytes.functional`: code tables, block-wise 8-bit and 4-bit quantization, and the state they leave.

Signatures and results are those of bitsandbytes 0.50; the codes come from `bittern.ops` and are the nearest ones, with
0 -> 0 (docs/bitsandbytes.md lists the differences).
"""

from __future__ import annotations

from bittern.compat.bitsandbytes._blockwise import dequantize_blockwise, quantize_blockwise
from bittern.compat.bitsandbytes._four_bit import (
    dequantize_4bit,
    dequantize_fp4,
    dequantize_nf4,
    gemv_4bit,
    quantize_4bit,
    quantize_fp4,
    quantize_nf4,
)
from bittern.compat.bitsandbytes._int8 import (
    int8_double_quant,
    int8_linear_matmul,
    int8_mm_dequant,
    int8_vectorwise_dequant,
    int8_vectorwise_quant,
)
from bittern.compat.bitsandbytes._maps import (
    create_dynamic_map,
    create_fp8_map,
    create_linear_map,
    create_normal_map,
    get_4bit_type,
)
from bittern.compat.bitsandbytes._quant_state import QuantState
from bittern.compat.bitsandbytes._update import optimizer_update_8bit_blockwise, optimizer_update_32bit

__all__ = [
    "QuantState",
    "create_dynamic_map",
    "create_fp8_map",
    "create_linear_map",
    "create_normal_map",
    "dequantize_4bit",
    "dequantize_blockwise",
    "dequantize_fp4",
    "dequantize_nf4",
    "gemv_4bit",
    "get_4bit_type",
    "has_avx512bf16",
    "int8_double_quant",
    "int8_linear_matmul",
    "int8_mm_dequant",
    "int8_vectorwise_dequant",
    "int8_vectorwise_quant",
    "optimizer_update_8bit_blockwise",
    "optimizer_update_32bit",
    "quantize_4bit",
    "quantize_blockwise",
    "quantize_fp4",
    "quantize_nf4",
]


def has_avx512bf16() -> bool:
    """False: there is no second layout of 4-bit weights for one kind of processor, so nothing needs converting."""
    return False
