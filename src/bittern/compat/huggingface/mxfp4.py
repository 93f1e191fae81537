# SPDX-License-Identifier: Apache-2.0
"""compressed-tensors' "mxfp4-pack-quantized" checkpoints: layers in the MXFP4 of the OCP Microscaling formats.

Of a layer [rows, columns], columns a multiple of 32:
    weight_packed   uint8 [rows, columns / 2]: two codes to a byte, the first in its lower half
    weight_scale    uint8 [rows, columns / 32], the biased exponents of powers of two
    W[o, i] = E2M1(code[o, i]) * 2^(weight_scale[o, i // 32] - 127), as in `LinearMXFP4`
gpt-oss's own files hold all experts of a layer in one tensor, which no nn.Linear has; they are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from bittern.compat.huggingface.format import Format, Part, number
from bittern.nn.linear_groups import Activations
from bittern.nn.linear_mxfp4 import LinearMXFP4
from bittern.nn.mx_codes import GROUP


class MxPackQuantized(Format):
    """Groups of 32 inputs."""

    name = "mxfp4-pack-quantized"
    marker = "weight_packed"

    @classmethod
    def of_weights(cls, weights: Mapping[str, Any]) -> Self:
        """Raises: ValueError for what is not read."""
        for key, only in (("num_bits", 4), ("group_size", GROUP)):
            if number(weights, key) != only:
                raise ValueError(f"{key} of {cls.name!r} must be {only}; got {weights[key]}; quantize anew")
        if weights.get("symmetric", True) is not True or weights.get("actorder"):
            raise ValueError(f"weights must be symmetric and in order; got {weights!r}; quantize anew")
        return cls(GROUP)

    def parts(self, rows: int, columns: int) -> tuple[Part, ...]:
        if columns % GROUP:
            raise ValueError(
                f"inputs must be a multiple of {GROUP}; the model's layer has {columns}; build the saved model"
            )
        return (
            Part("weight_packed", (torch.uint8,), (rows, columns // 2)),
            Part("weight_scale", (torch.uint8,), (rows, columns // GROUP)),
        )

    def layer(
        self, rows: int, columns: int, tensors: Mapping[str, Tensor], bias: Tensor | None, activations: Activations
    ) -> LinearMXFP4:
        if activations != "real":
            raise ValueError(f'activations must be "real" with MXFP4; got {activations!r}; leave it out')
        return LinearMXFP4.from_blocks(tensors["weight_packed"], tensors["weight_scale"], bias)
