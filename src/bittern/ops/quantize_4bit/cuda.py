"""`quantize_4bit` on CUDA."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def quantize_4bit_cuda(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    raise NotImplementedError("quantize_4bit: there is no CUDA kernel yet; move the tensors to the CPU")
