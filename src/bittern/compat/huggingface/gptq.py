# SPDX-License-Identifier: Apache-2.0
"""GPTQ's checkpoints, as AutoGPTQ and GPTQModel write them: "gptq" and "gptq_v2".

Of a layer [rows, columns] of b bits, with G groups:
    qweight  int32 [columns b / 32, rows]: the codes of a row are one string of bits down its column
    qzeros   int32 [G, rows b / 32]: the zero points of a group likewise along its row
    scales   [G, rows];  g_idx int32 [columns], the group of each input, any order with desc_act
    W[o, i] = scales[g_idx[i], o] * (code[o, i] - zero[g_idx[i], o])

"gptq_v2" stores the zero point, "gptq" one less. So 0 has no number in "gptq": some writers made 2^b - 1 of it (by the
field or by the word, which changes its neighbours), and readers take that as 2^b or as 0. Such a field is refused.
Where the configuration says `sym`, every zero point must be 2^(b - 1): that finds "gptq_v2" under the name of "gptq".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from bittern.compat.huggingface.format import (
    SCALES,
    Part,
    flag,
    group_size,
    number,
    order_of,
    unpack,
)
from bittern.compat.huggingface.integers import Codes, IntegerFormat
from bittern.ops.linear_groups.layout import PLANES

FORMATS = ("gptq", "gptq_v2")


class Gptq(IntegerFormat):
    """stored_less: what a stored zero point is less than the one meant, 1 in "gptq" and 0 in "gptq_v2".

    act_order: the configuration says that groups are not neighbours, so that g_idx must be there.
    """

    marker = "qweight"

    def __init__(self, bits: int, group: int | None, symmetric: bool, stored_less: int, act_order: bool) -> None:
        super().__init__(bits, group, symmetric)
        self.stored_less, self.act_order = stored_less, act_order

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self:
        """Raises: ValueError for what is not read."""
        names = [config[key] for key in ("checkpoint_format", "format") if key in config] or ["gptq"]
        if any(name not in FORMATS or name != names[0] for name in names):
            raise ValueError(f"checkpoint_format must be 'gptq' or 'gptq_v2'; got {names}; convert the checkpoint")
        if config.get("is_marlin_format"):
            raise ValueError("is_marlin_format is true: the order of Marlin's kernel is not read; take the original")
        if config.get("pack_dtype", "int32") != "int32":
            raise ValueError(f"pack_dtype must be 'int32'; got {config['pack_dtype']!r}; convert the checkpoint")
        bits = number(config, "bits")
        if bits not in PLANES:
            raise ValueError(f"bits must be 2, 3, 4 or 8; got {bits}; quantize anew")
        symmetric, act_order = flag(config, "sym", False), flag(config, "desc_act", False)
        return cls(bits, group_size(config), symmetric, int(names[0] == "gptq"), act_order)

    def parts(self, rows: int, columns: int) -> tuple[Part, ...]:
        if rows * self.bits % 32 or columns * self.bits % 32:
            raise ValueError(
                f"{self.bits} bits of {columns} inputs and {rows} outputs must fill words of 32 bits; convert the file"
            )
        groups = self.groups(columns)
        return (
            Part("qweight", (torch.int32,), (columns * self.bits // 32, rows)),
            Part("qzeros", (torch.int32,), (groups, rows * self.bits // 32)),
            Part("scales", SCALES, (groups, rows)),
            Part("g_idx", (torch.int32, torch.int64), (columns,), needed=self.act_order),
        )

    def codes(self, rows: int, columns: int, tensors: Mapping[str, Tensor]) -> Codes:
        stored = unpack(tensors["qzeros"].t(), self.bits)
        if self.stored_less and bool((stored == 2**self.bits - 1).any()):
            raise ValueError(
                f"qzeros stores {2**self.bits - 1}, which in 'gptq' stands for no zero point (readers take "
                f"{2**self.bits} or 0); write the checkpoint as 'gptq_v2'; if it is that, say so in checkpoint_format"
            )
        index = tensors.get("g_idx")
        return Codes(
            unpack(tensors["qweight"], self.bits).t(),
            tensors["scales"].t(),
            stored + self.stored_less,
            None if index is None else order_of(index, self.group),
        )
