# SPDX-License-Identifier: Apache-2.0
"""Packed low-bit arithmetic: the only package that chooses an implementation by device or instruction set."""

from __future__ import annotations

from typing import Any

from bittern.ops._epilogue import apply_epilogue, fused_multiply_add
from bittern.ops._isa import ON_REQUEST, Isa, available_isas, chosen_isa, multiplies_bfloat16
from bittern.ops._op import Implementation, Op
from bittern.ops._windows import window_positions
from bittern.ops.adapted_sign import MOST_HIDDEN, adapted_sign, adapted_sign_gradient
from bittern.ops.binary_block import (
    Activation,
    BitImages,
    PreparedBlock,
    ResidualRule,
    Steps,
    binary_block,
    bytes_of,
    encode_step,
    part_of,
    run_steps,
)
from bittern.ops.binary_conv2d import PreparedConv2d, binary_conv2d
from bittern.ops.binary_matmul import PreparedMatmul, binary_matmul
from bittern.ops.clipped_sign import clipped_levels, clipped_sign, masked_gradient
from bittern.ops.concatenate_bits import concatenate_bits, concatenate_bits_steps
from bittern.ops.dequantize_blockwise import dequantize_4bit, dequantize_blockwise
from bittern.ops.flat_bits import flat_bits, from_flat_bits, rows_of_bits
from bittern.ops.integer_add import IntegerSum, integer_add, integer_add_reference, integer_add_step
from bittern.ops.integer_conv import IntegerEnds, IntegerGeometry, PreparedIntegerConv, integer_conv_reference
from bittern.ops.integer_dequantize import PreparedIntegerDequantize, integer_dequantize_reference
from bittern.ops.integer_mean import IntegerMeanRule, integer_mean, integer_mean_reference, integer_mean_step
from bittern.ops.integer_pool import IntegerPoolRule, integer_pool, integer_pool_reference, integer_pool_step
from bittern.ops.integer_quantize import PreparedIntegerQuantize, integer_quantize_reference
from bittern.ops.integer_softmax import PreparedIntegerSoftmax, integer_softmax_reference
from bittern.ops.integer_table import integer_table, integer_table_reference, integer_table_step
from bittern.ops.linear_4bit import linear_4bit, linear_4bit_backward
from bittern.ops.linear_8bit import linear_8bit
from bittern.ops.linear_groups import dequantize_groups, linear_groups
from bittern.ops.map_images import MapOperation, MapStep, PreparedMap
from bittern.ops.mean_magnitude import Window, input_scale_step, mean_magnitude, mean_of_sample, window_mean
from bittern.ops.multibit_matvec import PreparedMultibitMatvec, multibit_matvec
from bittern.ops.multibit_quantize import MOST_MULTIBIT_PLANES, multibit_quantize
from bittern.ops.optimizer_step import PreparedStep, optimizer_step
from bittern.ops.pack_levels import pack_levels
from bittern.ops.pack_signs import PreparedPack, pack_signs
from bittern.ops.pool_bits import pool_bits, pool_bits_step
from bittern.ops.pool_images import PoolRule, mean_step, pool_step
from bittern.ops.quantize_blockwise import quantize_4bit, quantize_blockwise
from bittern.ops.real_conv import PreparedRealConv, SumOrder
from bittern.ops.real_linear import PreparedRealLinear, SumTree, TreePart
from bittern.ops.scaled_gradient import lowered, scale_whole, scaled_gradient, scaled_gradient_of_whole
from bittern.ops.shifted_sign import shifted_sign, shifted_sign_gradient
from bittern.ops.sign import sign
from bittern.ops.sign_products import sign_products
from bittern.ops.sign_slopes import approx_sign_gradient, error_decay_gradient, fourier_gradient, noisy_sign
from bittern.ops.standard_sign import standard_sign, standard_sign_gradient
from bittern.ops.unpack_signs import unpack_signs

ALL: tuple[Op[Any], ...] = (
    sign,
    clipped_sign,
    clipped_levels,
    masked_gradient,
    approx_sign_gradient,
    error_decay_gradient,
    fourier_gradient,
    noisy_sign,
    adapted_sign,
    adapted_sign_gradient,
    standard_sign,
    standard_sign_gradient,
    shifted_sign,
    shifted_sign_gradient,
    scaled_gradient,
    mean_magnitude,
    window_mean,
    pack_signs,
    pack_levels,
    unpack_signs,
    binary_matmul,
    sign_products,
    binary_conv2d,
    binary_block,
    pool_bits,
    concatenate_bits,
    optimizer_step,
    quantize_blockwise,
    dequantize_blockwise,
    quantize_4bit,
    dequantize_4bit,
    linear_4bit,
    linear_4bit_backward,
    linear_8bit,
    dequantize_groups,
    linear_groups,
    multibit_quantize,
    multibit_matvec,
)

__all__ = [
    "ALL",
    "MOST_HIDDEN",
    "MOST_MULTIBIT_PLANES",
    "ON_REQUEST",
    "Activation",
    "BitImages",
    "Implementation",
    "IntegerEnds",
    "IntegerGeometry",
    "IntegerMeanRule",
    "IntegerPoolRule",
    "IntegerSum",
    "Isa",
    "MapOperation",
    "MapStep",
    "Op",
    "PoolRule",
    "PreparedBlock",
    "PreparedConv2d",
    "PreparedIntegerConv",
    "PreparedIntegerDequantize",
    "PreparedIntegerQuantize",
    "PreparedIntegerSoftmax",
    "PreparedMap",
    "PreparedMatmul",
    "PreparedMultibitMatvec",
    "PreparedPack",
    "PreparedRealConv",
    "PreparedRealLinear",
    "PreparedStep",
    "ResidualRule",
    "Steps",
    "SumOrder",
    "SumTree",
    "TreePart",
    "Window",
    "adapted_sign",
    "adapted_sign_gradient",
    "apply_epilogue",
    "approx_sign_gradient",
    "available_isas",
    "binary_block",
    "binary_conv2d",
    "binary_matmul",
    "bytes_of",
    "chosen_isa",
    "clipped_levels",
    "clipped_sign",
    "concatenate_bits",
    "concatenate_bits_steps",
    "dequantize_4bit",
    "dequantize_blockwise",
    "dequantize_groups",
    "encode_step",
    "error_decay_gradient",
    "flat_bits",
    "fourier_gradient",
    "from_flat_bits",
    "fused_multiply_add",
    "input_scale_step",
    "integer_add",
    "integer_add_reference",
    "integer_add_step",
    "integer_conv_reference",
    "integer_dequantize_reference",
    "integer_mean",
    "integer_mean_reference",
    "integer_mean_step",
    "integer_pool",
    "integer_pool_reference",
    "integer_pool_step",
    "integer_quantize_reference",
    "integer_softmax_reference",
    "integer_table",
    "integer_table_reference",
    "integer_table_step",
    "linear_4bit",
    "linear_4bit_backward",
    "linear_8bit",
    "linear_groups",
    "lowered",
    "masked_gradient",
    "mean_magnitude",
    "mean_of_sample",
    "mean_step",
    "multibit_matvec",
    "multibit_quantize",
    "multiplies_bfloat16",
    "noisy_sign",
    "optimizer_step",
    "pack_levels",
    "pack_signs",
    "part_of",
    "pool_bits",
    "pool_bits_step",
    "pool_step",
    "quantize_4bit",
    "quantize_blockwise",
    "rows_of_bits",
    "run_steps",
    "scale_whole",
    "scaled_gradient",
    "scaled_gradient_of_whole",
    "shifted_sign",
    "shifted_sign_gradient",
    "sign",
    "sign_products",
    "standard_sign",
    "standard_sign_gradient",
    "unpack_signs",
    "window_mean",
    "window_positions",
]
