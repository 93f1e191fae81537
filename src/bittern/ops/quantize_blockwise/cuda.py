"""`quantize_blockwise` on CUDA."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def quantize_blockwise_cuda(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    raise NotImplementedError("quantize_blockwise: there is no CUDA kernel yet; move the tensors to the CPU")
