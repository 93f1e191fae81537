# SPDX-License-Identifier: Apache-2.0
"""Sums of int8 values on the CPU: steps of a native program."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bittern.ops._isa import Isa, chosen_isa
from bittern.ops.binary_block.cpu import run_steps
from bittern.ops.binary_block.layout import STEP, StepKind, bytes_of
from bittern.ops.integer_add.arguments import IntegerSum
from bittern.ops.integer_add.reference import integer_add_reference

IMAGE_DIMS = 4


def integer_add_step(rule: IntegerSum, out: Tensor) -> np.ndarray:
    """The record of one call; addresses and bytes of both sides (`x`, `residual`) are filled in later.

    out: int8, contiguous; it may be either side.
    """
    record = np.zeros(1, STEP)
    record["kind"] = StepKind.INTEGER_ADD
    r = record["integer_add"]
    r["count"] = out.numel()
    for name in ("zero_a", "zero_b", "out_zero", "low", "high"):
        r[name] = getattr(rule, name)
    r["a_multiplier"], r["a_shift"] = rule.a
    r["b_multiplier"], r["b_shift"] = rule.b
    r["multiplier"], r["shift"] = rule.own
    r["out"], record["sizes"]["real"] = out.data_ptr(), bytes_of(out)
    return record


def integer_add(a: Tensor, b: Tensor, rule: IntegerSum, isa: Isa | None = None) -> Tensor:
    """int8 of the shape to which both broadcast; native code where they are alike and lie alike."""
    if a.shape != b.shape:
        return integer_add_reference(a, b, rule)
    if a.stride() != b.stride() or not _is_dense(a):
        a, b = a.contiguous(), b.contiguous()
    out = torch.empty_like(a)
    record = integer_add_step(rule, out)
    r, sizes = record["integer_add"], record["sizes"]
    r["x"], sizes["input"], r["residual"], sizes["residual"] = a.data_ptr(), bytes_of(a), b.data_ptr(), bytes_of(b)
    run_steps(chosen_isa() if isa is None else isa, record)
    return out


def _is_dense(x: Tensor) -> bool:
    """Whether its memory is as large as it, in some order, which `empty_like` keeps."""
    return x.is_contiguous() or (x.ndim == IMAGE_DIMS and x.is_contiguous(memory_format=torch.channels_last))
