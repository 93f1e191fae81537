# SPDX-License-Identifier: Apache-2.0
"""One operator of `torch.ops.bitsandbytes`: its schema, what it does, and the shape of its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Operator(NamedTuple):
    """run and fake take the arguments of the schema; fake only makes empty results."""

    schema: str
    run: Callable[..., Any]
    fake: Callable[..., Any]

    @property
    def name(self) -> str:
        """With the overload: "gemv_4bit.out"."""
        return self.schema.split("(", 1)[0]


def filling(operator: Operator, schema: str) -> Operator:
    """The overload that writes the result of `operator` into a last argument `out` and returns nothing.

    Errors: ValueError for an `out` of another shape, dtype or device.
    """

    def run(*args: Any) -> None:
        out = args[-1]
        fake(*args)
        out.copy_(operator.run(*args[:-1]))

    def fake(*args: Any) -> None:
        out, wanted = args[-1], operator.fake(*args[:-1])
        if (out.shape, out.dtype, out.device) != (wanted.shape, wanted.dtype, wanted.device):
            raise ValueError(
                f"{operator.name}: out must be {wanted.dtype} {list(wanted.shape)} on {wanted.device}; "
                f"got {out.dtype} {list(out.shape)} on {out.device}"
            )

    return Operator(schema, run, fake)


def unknown_count(like: Tensor) -> Tensor:
    """int64 indices whose number depends on the values, for the fakes."""
    count = torch.library.get_ctx().new_dynamic_size()
    return like.new_empty(count, dtype=torch.int64)
