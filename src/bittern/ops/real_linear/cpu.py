# SPDX-License-Identifier: Apache-2.0
"""Products of real rows on the CPU: prepared weights, and steps of a native program."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.ops.binary_block.layout import REAL_UNIT, STEP, StepKind, bytes_of, extent_of
from bittern.ops.real_linear.order import SumTree


class PreparedRealLinear:
    """y = x W^T + b, its weights laid out for one order of summation.

    w: float32 [out, features]; bias: float32 [out], where the order has one. Every output is the sum of a tree: the
    same bits at every instruction set and number of threads.
    """

    def __init__(self, w: Tensor, bias: Tensor | None, order: SumTree) -> None:
        if order.has_bias != (bias is not None):
            raise ValueError(f"real_linear: a bias must be given where the order adds one; got {order.has_bias=}")
        self.out_features, self.features = w.shape
        missing = -self.out_features % REAL_UNIT
        taken = torch.tensor(order.products, dtype=torch.int64)
        in_turn = torch.equal(taken, torch.arange(self.features))
        padded = F.pad(w if in_turn else w[:, taken], (0, 0, 0, missing))
        self.weights = padded.view(-1, REAL_UNIT, self.features).transpose(1, 2).contiguous()
        self.bias = None if bias is None else F.pad(bias, (0, missing))
        self.products = None if in_turn else taken
        self.fused = order.fused
        self.tree = torch.tensor(order.parts, dtype=torch.int64)

    def step(self, rows: int, out: Tensor) -> np.ndarray:
        """The record of one call of so many rows, whose address (`linear.x`) is filled in later.

        out: float32 [rows, out], or those columns of a wider one.
        """
        record = np.zeros(1, STEP)
        record["kind"] = StepKind.LINEAR
        r = record["linear"]
        r["rows"], r["features"], r["out_features"] = rows, self.features, self.out_features
        r["weights"], r["out"], r["out_row"] = self.weights.data_ptr(), out.data_ptr(), out.stride(0)
        r["bias"] = 0 if self.bias is None else self.bias.data_ptr()
        r["products"] = 0 if self.products is None else self.products.data_ptr()
        r["tree"], r["parts"], r["fused"] = self.tree.data_ptr(), self.tree.shape[0], self.fused
        sizes = record["sizes"]
        sizes["weights"], sizes["rows"] = bytes_of(self.weights), bytes_of(self.bias)
        sizes["mask"], sizes["tree"], sizes["real"] = bytes_of(self.products), bytes_of(self.tree), extent_of(out)
        return record
