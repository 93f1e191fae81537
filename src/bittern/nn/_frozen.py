"""What the frozen low-bit linear layers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from torch import Tensor, nn


class FrozenLinear(nn.Module):
    """Keeps scales and tables in buffers whose type no cast changes: `.half()` is about the arithmetic."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the buffers with the module; those in floating point keep their values and type."""
        kept = {name: buffer for name, buffer in self.named_buffers() if buffer.is_floating_point()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in kept.items():
            moved = self.get_buffer(name)
            if moved.dtype != buffer.dtype:
                setattr(self, name, buffer.to(moved.device))
        return self
