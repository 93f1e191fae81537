# SPDX-License-Identifier: Apache-2.0
"""LinearMXFP4: a frozen linear layer in the 4-bit floating point of the OCP Microscaling formats."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from bittern.nn._frozen import FrozenLinear, weight_of
from bittern.nn.mx_codes import GROUP, check_exponents, round_to_mx, table
from bittern.ops.e8m0 import powers
from bittern.ops.linear_4bit import linear_4bit
from bittern.ops.quantize_blockwise.check import FLOATS


class LinearMXFP4(FrozenLinear):
    """x W^T + bias with W frozen in MXFP4, W[o, i] = E2M1(code[o, i]) * 2^(e[o, i // 32] - 127).

    x: [..., in_features] float32, bfloat16 or float16 -> [..., out_features] of x's dtype. in_features must be a
    multiple of 32. `packed` uint8 [out_features, in_features / 2], the first code of a byte in its upper half;
    `exponents` uint8 [out_features, in_features / 32]. Storage: 4.25 bits a weight.
    Codes and scales of others, as gpt-oss has them: `from_blocks`. Rounding, and what codes mean: `mx_codes`.
    Every such number is one of float32 and of bfloat16; W is rounded to float16 where x is. Products: `linear_4bit`.
    W has no gradient; x and bias have, of any order. `.half()` and its like cast the bias alone.
    Errors: ValueError for sizes that do not fit, a weight that is not finite, a scale that is no number or too large;
    TypeError for another dtype.
    Reference: OCP Microscaling Formats (MX) v1.0; arXiv:2310.10537.
    """

    packed: Tensor
    exponents: Tensor
    table: Tensor
    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._round(nn.Linear(in_features, out_features, bias, device, dtype))

    @classmethod
    def from_float(cls, linear: nn.Linear) -> Self:
        """The layer that holds the nearest codes of `linear`'s weight; it shares the bias."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._round(linear)
        return layer.train(linear.training)

    @classmethod
    def from_blocks(cls, blocks: Tensor, scales: Tensor, bias: Tensor | None = None) -> Self:
        """The layer of codes that others have chosen, exactly.

        blocks: uint8 [out_features, groups, 16], the first code of a byte in its lower half, as in gpt-oss, or
        [out_features, groups * 16]. scales: uint8 [out_features, groups], or float8_e8m0fnu. bias: [out_features].
        """
        exponents = scales.view(torch.uint8) if scales.element_size() == 1 else scales
        groups = blocks.flatten(1) if blocks.ndim == 3 else blocks
        fits = blocks.ndim in (2, 3) and scales.ndim == 2 and groups.shape[1] == 16 * scales.shape[1]
        if not fits or blocks.shape[0] != scales.shape[0] or (blocks.ndim == 3 and blocks.shape[2] != 16):
            raise ValueError(
                "LinearMXFP4: blocks must be [out_features, groups, 16] and scales [out_features, groups]; got "
                f"{list(blocks.shape)} and {list(scales.shape)}; hand experts over one by one"
            )
        if (blocks.dtype, exponents.dtype) != (torch.uint8, torch.uint8):
            raise TypeError(f"LinearMXFP4: blocks and scales must be uint8; got {blocks.dtype} and {scales.dtype}")
        rows = groups.shape[0]
        if bias is not None and (tuple(bias.shape) != (rows,) or not bias.is_floating_point()):
            raise ValueError(f"LinearMXFP4: bias must be numbers [{rows}]; got {bias.dtype} {list(bias.shape)}")
        check_exponents("LinearMXFP4", exponents)
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._hold(groups >> 4 | groups << 4, exponents.clone())
        layer.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        return layer

    def _round(self, linear: nn.Linear) -> None:
        weight = weight_of("LinearMXFP4", linear, FLOATS).float()
        if linear.in_features % GROUP:
            raise ValueError(
                f"LinearMXFP4: in_features must be a multiple of {GROUP}; got {linear.in_features}; keep such a layer, "
                "or take LinearGroups"
            )
        codes, exponents = round_to_mx(weight)
        check_exponents("LinearMXFP4", exponents)
        self._hold(codes[:, 0::2] << 4 | codes[:, 1::2], exponents)
        self.bias = linear.bias

    def _hold(self, packed: Tensor, exponents: Tensor) -> None:
        self.in_features, self.out_features = 2 * packed.shape[1], packed.shape[0]
        self.register_buffer("packed", packed.contiguous())
        self.register_buffer("exponents", exponents)
        self.register_buffer("table", table().to(packed.device))

    def blocks(self) -> Tensor:
        """uint8 [out_features, groups, 16], as `from_blocks` takes them; `exponents` are its scales."""
        return (self.packed >> 4 | self.packed << 4).view(self.out_features, -1, GROUP // 2)

    def scales(self) -> Tensor:
        """float32 [groups of all rows]: the powers of two."""
        return powers(self.exponents).flatten()

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """W [out_features, in_features], rounded to `dtype`."""
        codes = torch.stack([self.packed >> 4, self.packed & 15], -1).view(*self.exponents.shape, GROUP)
        numbers = self.table[codes.int()] * powers(self.exponents).unsqueeze(-1)
        return numbers.view(self.out_features, self.in_features).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        self.check_input(x)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return linear_4bit.direct(x, self.packed, self.exponents.view(-1), self.table, GROUP, self.out_features, bias)

    def check_codes(self) -> None:
        """As for every frozen layer; scales must be numbers, and the table that of the format."""
        super().check_codes()
        check_exponents("LinearMXFP4", self.exponents)
        if not torch.equal(self.table.cpu(), table()):
            raise ValueError("LinearMXFP4: table must be the sixteen numbers of E2M1; got others; save the layer anew")

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"
