# SPDX-License-Identifier: Apache-2.0
"""torch's own linear layers: float32, and 16 bits where the CPU multiplies those."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from bittern.bench.weights.contender import Contender, multiplies, of_layers


def _in(dtype: torch.dtype, linear: nn.Linear) -> nn.Module:
    return copy.deepcopy(linear).to(dtype)


def _unless_multiplied(dtype: torch.dtype) -> Callable[[], str | None]:
    def missing() -> str | None:
        name = str(dtype).removeprefix("torch.")
        return None if multiplies(dtype) else f"this CPU is not known to multiply {name}"

    return missing


TORCH_FLOAT = (
    Contender("torch float32", partial(of_layers, partial(_in, torch.float32), cast=torch.float32)),
    *(
        Contender(
            f"torch {str(dtype).removeprefix('torch.')}",
            partial(of_layers, partial(_in, dtype), cast=dtype),
            missing=_unless_multiplied(dtype),
        )
        for dtype in (torch.bfloat16, torch.float16)
    ),
)
"""Each takes inputs of its own type, whatever the type of the row."""
