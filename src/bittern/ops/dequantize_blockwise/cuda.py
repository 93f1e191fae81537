"""`dequantize_blockwise` on CUDA."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def dequantize_blockwise_cuda(*args: Any, **kwargs: Any) -> Tensor:
    raise NotImplementedError("dequantize_blockwise: there is no CUDA kernel yet; move the tensors to the CPU")
