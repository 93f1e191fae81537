# SPDX-License-Identifier: Apache-2.0
"""Linear4bit: a frozen linear layer of 4 bits per weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from bittern.nn._frozen import FrozenLinear, weight_of
from bittern.ops import codebooks
from bittern.ops.dequantize_blockwise.dequantize_4bit import dequantize_4bit
from bittern.ops.linear_4bit import linear_4bit
from bittern.ops.nested import NestedAbsmax, dequantize_absmax, quantize_absmax
from bittern.ops.quantize_blockwise.check import FLOATS
from bittern.ops.quantize_blockwise.quantize_4bit import quantize_4bit

BLOCK_SIZE = 64
"""Weights that share a scale, as in QLoRA."""


class Linear4bit(FrozenLinear):
    """x W^T + bias with W frozen in 4 bits, decoded inside the product; adapters around it train through it.

    x: [..., in_features] float32, bfloat16 or float16 -> [..., out_features] of x's dtype.
    code: float32 [16], ascending, the buffer `table`; None is NF4. block_size: weights per scale, in row order. nested:
    the scales are quantized to 8 bits too (double quantization). Storage per weight: 4 bits + 32 / block_size, or +
    about 8 / block_size nested: 4.5 and 4.13 bits for blocks of 64.
    W has no gradient; x and bias have: dx = dy W, with W decoded and rounded to dy's dtype.
    `.half()` and its like cast the bias alone; scales and table stay float32.
    Second and higher derivatives, forward mode and torch.func work too.
    Errors: ValueError for sizes, a table or a block size that do not fit, or a weight that is not finite; TypeError for
    another dtype of x or of the weight.
    Reference: QLoRA (arXiv:2305.14314).
    """

    packed: Tensor
    absmax: Tensor
    table: Tensor
    """The numbers that codes stand for. Not `code`, which is the source text of a module that torch.export gives."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        code: Tensor | None = None,
        block_size: int = BLOCK_SIZE,
        nested: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._fill(nn.Linear(in_features, out_features, bias, device, dtype), code, block_size, nested)

    @classmethod
    def from_float(
        cls, linear: nn.Linear, *, code: Tensor | None = None, block_size: int = BLOCK_SIZE, nested: bool = False
    ) -> Self:
        """The layer that holds the nearest 4-bit codes of `linear`'s weight; it shares the bias."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._fill(linear, code, block_size, nested)
        return layer.train(linear.training)

    def _fill(self, linear: nn.Linear, code: Tensor | None, block_size: int, nested: bool) -> None:
        weight = weight_of("Linear4bit", linear, FLOATS)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.block_size, self.nested = block_size, nested
        table = (codebooks.nf4() if code is None else code).to(weight.device)
        packed, absmax = quantize_4bit(weight, table, block_size)
        self.register_buffer("packed", packed)
        self.register_buffer("table", table.clone())
        if nested:
            for name, value in quantize_absmax(absmax)._asdict().items():
                self.register_buffer(f"absmax_{name}", value)
        else:
            self.register_buffer("absmax", absmax)
        self.bias = linear.bias

    @property
    def code(self) -> Tensor:
        """`table`, as the argument names it."""
        return self.table

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, metadata: dict[str, Any], strict: bool, *lists: list[str]
    ) -> None:
        """As every frozen layer; where `table` is missing, `code`, as it was called before, is taken for it."""
        old, new = f"{prefix}code", f"{prefix}table"
        if old in state_dict and new not in state_dict:
            state_dict = {new if name == old else name: value for name, value in state_dict.items()}
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, *lists)

    def _scales(self) -> tuple[Tensor, ...]:
        """absmax, or its codes, their scales and the offset."""
        if not self.nested:
            return (self.absmax,)
        return tuple(self.get_buffer(f"absmax_{name}") for name in NestedAbsmax._fields)

    def scales(self) -> Tensor:
        """float32 [blocks]: the absmax of each block, decoded if they are nested."""
        return dequantize_absmax(NestedAbsmax(*self._scales())) if self.nested else self.absmax

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """W [out_features, in_features]: code * absmax, rounded to `dtype`."""
        shape = (self.out_features, self.in_features)
        return dequantize_4bit(self.packed, self.scales(), self.table, self.block_size, shape, dtype)

    def forward(self, x: Tensor) -> Tensor:
        self.check_input(x)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        codes, *nested = self._scales()
        product = linear_4bit.direct
        return product(x, self.packed, codes, self.table, self.block_size, self.out_features, bias, *nested)

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, "
            f"block_size={self.block_size}, nested={self.nested}"
        )
