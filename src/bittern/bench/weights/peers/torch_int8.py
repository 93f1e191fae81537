# SPDX-License-Identifier: Apache-2.0
"""torch's dynamic quantization: int8 weights, inputs rounded to 8 bits by one scale for all."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bittern.bench.weights.contender import Contender, Pass, Ready


def _prepare(linears: Sequence[nn.Linear]) -> Ready:
    def build(repeats: int, x: Tensor, step: bool) -> Pass:
        weights = sum(linear.weight.numel() for linear in linears)
        scales = sum(linear.out_features for linear in linears)
        stack = nn.Sequential(*(_quantized(linear) for _ in range(repeats) for linear in linears))
        return Pass(_forward(stack, x.float()), repeats * (weights + 4 * scales))

    return build


def _quantized(linear: nn.Linear) -> nn.Module:
    """With a packed weight of its own: a copy of the module would share it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torchao does it now: its products are torch's other ops
        found: nn.Module = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            nn.Sequential(copy.deepcopy(linear)), {nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}
        )
    return found


def _forward(stack: nn.Module, x: Tensor) -> Callable[[], object]:
    def forward() -> object:
        with torch.inference_mode():
            return stack(x)

    return forward


TORCH_INT8 = Contender("torch int8, dynamic", _prepare, (torch.float32,), steps=False, int8=True)
