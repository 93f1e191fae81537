# SPDX-License-Identifier: Apache-2.0
"""The type in which the real layers of a packed model compute: float32, or bfloat16 where somebody asks for it."""

from __future__ import annotations

import warnings

import torch

from bittern.ops import multiplies_bfloat16


def check_real(real: torch.dtype, device: torch.device) -> None:
    """Raises: ValueError for a type that real layers do not compute in on this device."""
    if real not in (torch.float32, torch.bfloat16) or (real != torch.float32 and device.type != "cpu"):
        raise ValueError(
            f"packed model: real layers compute in float32, or on the CPU in bfloat16; got {real} on {device}"
        )


def warn_if_slow(real: torch.dtype) -> None:
    """Tell who asks for bfloat16 on a CPU that does not multiply it, or whose pickle arrives at one.

    A warning and no error: somebody may want to see what bfloat16 answers, and a model that was sent must arrive.
    """
    if real == torch.bfloat16 and not multiplies_bfloat16():
        warnings.warn(
            "packed model: real layers in bfloat16 are for a CPU that multiplies it (AVX512-BF16, AMX, ARM's BF16); "
            "this one does not, and takes several times as long as in float32; use .with_real(torch.float32), unless "
            "it is to try what such a CPU answers",
            stacklevel=3,
        )
