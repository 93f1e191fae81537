# SPDX-License-Identifier: Apache-2.0
"""AWQ's checkpoints, as AutoAWQ writes them: 4 bits with zero points, in the layouts "gemm" and "gemv".

Of a layer [rows, columns] with G = columns / group groups, eight codes to a word:
    gemm   qweight int32 [columns, rows / 8], qzeros int32 [G, rows / 8], scales [G, rows]; along the rows, and the
           four bits from 4 j on hold number 0, 2, 4, 6, 1, 3, 5, 7 of the eight for j = 0 ... 7
    gemv   qweight int32 [rows, columns / 8], qzeros int32 [rows, Z], scales [rows, 8 Z]; along the columns and groups,
           in order; Z = G / 8 rounded up, and in groups of 64 and 32 to a multiple of 2 and 4 more
    W[o, i] = scales[g, o] * (code[o, i] - zero[g, o]),   g = i // group
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from bittern.compat.huggingface.format import SCALES, Part, flag, group_size, number, unpack
from bittern.compat.huggingface.integers import Codes, IntegerFormat

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight neighbours has the bits from 4 j on."""
LAYOUTS = ("gemm", "gemv")


class Awq(IntegerFormat):
    """layout: "gemm" or "gemv"."""

    marker = "qweight"

    def __init__(self, group: int | None, layout: str) -> None:
        super().__init__(4, group, symmetric=False)
        self.layout = layout

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self:
        """Raises: ValueError for what is not read."""
        names = [config[key] for key in ("version", "checkpoint_format", "format") if key in config] or ["gemm"]
        names = [name.lower() if isinstance(name, str) else name for name in names]
        if any(name not in LAYOUTS or name != names[0] for name in names):
            raise ValueError(f"version must be 'gemm' or 'gemv'; got {names}; convert the checkpoint")
        if config.get("backend") == "llm-awq":
            raise ValueError("backend must not be 'llm-awq', whose layout is another one; convert the checkpoint")
        if not flag(config, "zero_point", True):
            raise ValueError("zero_point must be true; got false, which AutoAWQ does not pack; quantize anew")
        bits = number(config, "bits")
        if bits != 4:
            raise ValueError(f"bits must be 4, as AutoAWQ packs no others; got {bits}; quantize anew")
        return cls(group_size(config), names[0])

    def parts(self, rows: int, columns: int) -> tuple[Part, ...]:
        if rows % 8 or columns % (self.group or 1):
            raise ValueError(
                f"outputs must be a multiple of 8 and inputs of {self.group or 1}; the model's layer has {rows} and "
                f"{columns}; build the saved model"
            )
        groups = self.groups(columns)
        if self.layout == "gemm":
            sizes = ((columns, rows // 8), (groups, rows // 8), (groups, rows))
        else:
            if columns % 8:
                raise ValueError(f"inputs must be a multiple of 8; the model's layer has {columns}")
            words = self._words(columns)
            sizes = ((rows, columns // 8), (rows, words), (rows, 8 * words))
        dtypes = ((torch.int32,), (torch.int32,), SCALES)
        return tuple(map(Part, ("qweight", "qzeros", "scales"), dtypes, sizes))

    def _words(self, columns: int) -> int:
        """Z."""
        multiple = {64: 2, 32: 4}.get(self.group or columns, 1)
        return -(-self.groups(columns) // (8 * multiple)) * multiple

    def codes(self, rows: int, columns: int, tensors: Mapping[str, Tensor]) -> Codes:
        weight, zeros, scales = tensors["qweight"], tensors["qzeros"], tensors["scales"]
        if self.layout == "gemm":
            return Codes(_in_order(weight), scales.t(), _in_order(zeros))
        groups = self.groups(columns)
        return Codes(unpack(weight.t(), 4).t(), scales[:, :groups], unpack(zeros.t(), 4)[:groups].t())


def _in_order(words: Tensor) -> Tensor:
    """int32 [n, rows / 8] -> uint8 [rows, n]."""
    codes = unpack(words.t(), 4).view(words.shape[1], 8, -1)
    place = torch.tensor([ORDER.index(number) for number in range(8)], device=words.device)
    return codes.index_select(1, place).reshape(-1, words.shape[0])
