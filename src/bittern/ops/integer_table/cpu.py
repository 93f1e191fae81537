# SPDX-License-Identifier: Apache-2.0
"""Tables of int8 on the CPU: steps of a native program."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bittern.ops._isa import chosen_isa
from bittern.ops.binary_block.cpu import run_steps
from bittern.ops.binary_block.layout import STEP, StepKind, bytes_of


def integer_table_step(table: Tensor, out: Tensor) -> np.ndarray:
    """The record of one call; its input's address and bytes are filled in later. The table must stay where it is.

    table: int8 [256]; out: int8, contiguous; it may be the input.
    """
    record = np.zeros(1, STEP)
    record["kind"] = StepKind.INTEGER_TABLE
    r, sizes = record["integer_table"], record["sizes"]
    r["count"], r["table"], r["out"] = out.numel(), table.data_ptr(), out.data_ptr()
    sizes["rows"], sizes["real"] = bytes_of(table), bytes_of(out)
    return record


def integer_table(x: Tensor, table: Tensor) -> Tensor:
    """int8 of any shape -> int8 of that shape."""
    x = x.contiguous()
    out = torch.empty_like(x)
    record = integer_table_step(table, out)
    record["integer_table"]["x"], record["sizes"]["input"] = x.data_ptr(), bytes_of(x)
    run_steps(chosen_isa(), record)
    return out
