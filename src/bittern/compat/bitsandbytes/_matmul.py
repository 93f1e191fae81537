# SPDX-License-Identifier: Apache-2.0
"""`bitsandbytes.matmul` and `matmul_4bit`: products with 8-bit and 4-bit weights, and their gradients.

A 4-bit weight is never decoded as a whole. An 8-bit one is kept in its codes between forward and backward; the backward
pass decodes it again.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.compat.bitsandbytes._four_bit import dequantize_4bit, packed_product
from bittern.compat.bitsandbytes._int8 import int8_mixed_product, int8_vectorwise_quant
from bittern.compat.bitsandbytes._quant_state import QuantState
from bittern.ops.linear_8bit.reference import LEVELS


@dataclass
class MatmulLtState:
    """What `matmul` knows of a weight: its codes CB [out, in] int8, scales SCB [out], and how to treat outliers.

    threshold: activations at least this large keep their columns out of the int8 product; 0 is off. idx: the columns
    that the last product kept out. has_fp16_weights: the weight is floating point and quantized anew at each call.
    is_training: multiply in floating point.
    """

    CB: Tensor | None = None
    SCB: Tensor | None = None
    idx: Tensor | None = None
    threshold: float = 0.0
    is_training: bool = True
    has_fp16_weights: bool = True
    use_pool: bool = False

    def reset_grads(self) -> None:
        """Forgets the codes."""
        self.CB = None
        self.SCB = None

    def weight(self, dtype: torch.dtype) -> Tensor:
        """The decoded weight. Errors: RuntimeError before the first quantization."""
        codes, scales = self.codes()
        return (codes * (scales.view(-1, 1) / LEVELS)).to(dtype)

    def codes(self) -> tuple[Tensor, Tensor]:
        """CB and SCB. Errors: RuntimeError before the first quantization."""
        if self.CB is None or self.SCB is None:
            raise RuntimeError("MatmulLtState: no quantized weight; call .to(device) on the layer first")
        return self.CB, self.SCB


def matmul_4bit(
    A: Tensor, B: Tensor, quant_state: QuantState, out: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """A [..., in] times a 4-bit weight, transposed: [..., out] of A's dtype, plus bias.

    B: packed codes of `quantize_4bit`, either way up; quant_state.shape is [out, in]. A state whose shape is [in, out]
    and not square is taken as such, decoded as a whole, with a DeprecationWarning as in bitsandbytes.
    Errors: ValueError without a two-dimensional state, or for sizes that do not fit.
    """
    if quant_state is None or quant_state.shape is None or len(quant_state.shape) != 2:
        raise ValueError("matmul_4bit: quant_state must have a shape [out, in]; got none; take that of quantize_4bit")
    rows, columns = quant_state.shape
    if A.shape[-1] == columns:
        result = packed_product(A, B, bias, quant_state)
    elif A.shape[-1] == rows:
        _warn_of_orientation(quant_state)
        weight = dequantize_4bit(B.reshape(-1, 1), quant_state).to(A.dtype).t()
        result = F.linear(A, weight, None if bias is None else bias.to(A.dtype))
    else:
        raise ValueError(
            f"matmul_4bit: A [..., {A.shape[-1]}] must have the {columns} features of the weight "
            f"{list(quant_state.shape)}; bring A to that many"
        )
    return result if out is None else out.copy_(result)


def _warn_of_orientation(state: QuantState) -> None:
    if not torch.compiler.is_compiling():
        warnings.warn(
            f"matmul_4bit: the weight was quantized as [in, out], shape {list(state.shape or ())}. "
            "Re-quantize from the weight as [out, in]; this will be an error in a later version",
            DeprecationWarning,
            stacklevel=3,
        )


class _Linear8bit(torch.autograd.Function):
    """x @ W^T + bias with W in 8 bits; W's gradient is that of the product, as if it were not quantized."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, state: MatmulLtState) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, *state.codes())
        ctx.bias_dtype = None if bias is None else bias.dtype
        if state.is_training:
            return F.linear(x, state.weight(x.dtype), None if bias is None else bias.to(x.dtype))
        return _int8_linear(x, bias, state)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, codes, scales = ctx.saved_tensors
        grad = grads[0].reshape(-1, grads[0].shape[-1])
        x_grad = weight_grad = bias_grad = None
        if ctx.needs_input_grad[0]:
            weight = (codes * (scales.view(-1, 1) / LEVELS)).to(grad.dtype)
            x_grad = (grad @ weight).view(*grads[0].shape[:-1], weight.shape[1])
        if ctx.needs_input_grad[1]:
            weight_grad = grad.t() @ x.reshape(-1, x.shape[-1])
        if ctx.needs_input_grad[2]:
            bias_grad = grad.sum(0, dtype=ctx.bias_dtype)
        return x_grad, weight_grad, bias_grad, None


def _int8_linear(x: Tensor, bias: Tensor | None, state: MatmulLtState) -> Tensor:
    """Integer product of row-wise codes, plus the outlier columns of x in floating point."""
    codes, scales = state.codes()
    rows = x.reshape(-1, x.shape[-1])
    found, absmax, state.idx = int8_vectorwise_quant(rows, state.threshold)
    values = int8_mixed_product(rows, found, codes, absmax, scales, state.idx, bias)
    return values.view(*x.shape[:-1], codes.shape[0])


def matmul(
    A: Tensor,
    B: Tensor,
    out: Tensor | None = None,
    state: MatmulLtState | None = None,
    threshold: float = 0.0,
    bias: Tensor | None = None,
) -> Tensor:
    """A [..., in] times an 8-bit weight B [out, in], transposed, by LLM.int8() (arXiv:2208.07339): [..., out].

    A floating-point B is quantized by rows; an int8 B is that of `state`. state.is_training: B's codes are multiplied
    in A's dtype; else A is quantized by rows too, but for outlier columns, and the product is exact in int32.
    """
    state = MatmulLtState() if state is None else state
    if threshold > 0.0:
        state.threshold = threshold
    if B.dtype != torch.int8 and (state.has_fp16_weights or state.CB is None):
        state.CB, state.SCB, _ = int8_vectorwise_quant(B.detach())
    result: Tensor = _Linear8bit.apply(A, B, bias, state)  # type: ignore[no-untyped-call]
    return result if out is None else out.copy_(result)
