"""`optimizer_step` on CUDA."""

from __future__ import annotations

from typing import Any


def optimizer_step_cuda(*args: Any) -> None:
    raise NotImplementedError("optimizer_step: there is no CUDA kernel yet; move the parameters to the CPU")
