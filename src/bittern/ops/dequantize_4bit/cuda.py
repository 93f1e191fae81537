"""`dequantize_4bit` on CUDA."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def dequantize_4bit_cuda(*args: Any, **kwargs: Any) -> Tensor:
    raise NotImplementedError("dequantize_4bit: there is no CUDA kernel yet; move the tensors to the CPU")
