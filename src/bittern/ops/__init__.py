"""Packed low-bit arithmetic: the only package that chooses an implementation by device or instruction set."""

from __future__ import annotations

from typing import Any

from bittern.ops._epilogue import apply_epilogue, fused_multiply_add
from bittern.ops._isa import Isa, available_isas, chosen_isa
from bittern.ops._op import Implementation, Op
from bittern.ops.binary_conv2d import PreparedConv2d, binary_conv2d
from bittern.ops.binary_matmul import PreparedMatmul, binary_matmul
from bittern.ops.dequantize_4bit import dequantize_4bit
from bittern.ops.dequantize_blockwise import dequantize_blockwise
from bittern.ops.linear_4bit import linear_4bit
from bittern.ops.linear_4bit_backward import linear_4bit_backward
from bittern.ops.linear_8bit import linear_8bit
from bittern.ops.optimizer_step import PreparedStep, optimizer_step
from bittern.ops.pack_signs import PreparedPack, pack_signs
from bittern.ops.quantize_4bit import quantize_4bit
from bittern.ops.quantize_blockwise import quantize_blockwise
from bittern.ops.sign import sign
from bittern.ops.unpack_signs import unpack_signs

ALL: tuple[Op[Any], ...] = (
    sign,
    pack_signs,
    unpack_signs,
    binary_matmul,
    binary_conv2d,
    optimizer_step,
    quantize_blockwise,
    dequantize_blockwise,
    quantize_4bit,
    dequantize_4bit,
    linear_4bit,
    linear_4bit_backward,
    linear_8bit,
)

__all__ = [
    "ALL",
    "Implementation",
    "Isa",
    "Op",
    "PreparedConv2d",
    "PreparedMatmul",
    "PreparedPack",
    "PreparedStep",
    "apply_epilogue",
    "available_isas",
    "binary_conv2d",
    "binary_matmul",
    "chosen_isa",
    "dequantize_4bit",
    "dequantize_blockwise",
    "fused_multiply_add",
    "linear_4bit",
    "linear_4bit_backward",
    "linear_8bit",
    "optimizer_step",
    "pack_signs",
    "quantize_4bit",
    "quantize_blockwise",
    "sign",
    "unpack_signs",
]
