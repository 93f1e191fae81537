# SPDX-License-Identifier: Apache-2.0
"""bitsandbytes' Linear4bit: NF4 in blocks of 64, products in bfloat16, packed for the processor in eval mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bittern.bench.weights.contender import Contender, Pass, Ready, of_layers, without

BLOCK = 64
SCALE_BYTES = 4
PACKED_OUTPUTS, PACKED_INPUTS = 32, 2
"""Of what the sizes of a layer must be multiples, or packing for AVX-512 with bfloat16 fails (bitsandbytes 0.50)."""


def _prepare(linears: Sequence[nn.Linear]) -> Ready:
    ready = of_layers(quantized, linears)
    scale_bytes = SCALE_BYTES * sum(linear.weight.numel() // BLOCK for linear in linears)

    def build(repeats: int, x: Tensor, step: bool) -> Pass:
        call, code_bytes = ready(repeats, x, step)
        return Pass(call, code_bytes + repeats * scale_bytes)  # scales are no buffers there

    return build


def quantized(linear: nn.Linear) -> nn.Module:
    """The layer as bitsandbytes has it; in eval mode it packs the weight for this processor, if it can those sizes."""
    import bitsandbytes.nn as other

    layer: Any = other.Linear4bit(
        linear.in_features, linear.out_features, bias=False, quant_type="nf4", compute_dtype=torch.bfloat16
    )
    layer.weight = other.Params4bit(
        linear.weight.detach().clone(), requires_grad=False, quant_type="nf4", compress_statistics=False
    )
    if linear.out_features % PACKED_OUTPUTS or linear.in_features % PACKED_INPUTS:
        layer.support_avx512bf16_for_cpu = False
    module: nn.Module = layer.to("cpu")
    return module


BITSANDBYTES = Contender("bitsandbytes NF4", _prepare, missing=without("bitsandbytes"))
