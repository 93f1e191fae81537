"""What the frozen low-bit linear layers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from torch import Tensor, nn


def weight_of(owner: str, linear: nn.Module) -> Tensor:
    """The weight that `owner` freezes. Errors: TypeError unless it is an nn.Linear's; ValueError unless finite."""
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"{owner}: it takes the place of an nn.Linear; got {type(linear).__name__}")
    weight = linear.weight.detach()
    if not weight.is_meta and not weight.isfinite().all():
        raise ValueError(f"{owner}: the weight must be finite; got NaN or inf; repair it first")
    return weight


class FrozenLinear(nn.Module):
    """Keeps scales and tables in buffers whose type no cast changes: `.half()` is about the arithmetic."""

    in_features: int
    out_features: int

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the buffers with the module; those in floating point keep their values and type."""
        kept = {name: buffer for name, buffer in self.named_buffers() if buffer.is_floating_point()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in kept.items():
            moved = self.get_buffer(name)
            if moved.dtype != buffer.dtype:
                setattr(self, name, buffer.to(moved.device))
        return self

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, metadata: dict[str, Any], strict: bool, *lists: list[str]
    ) -> None:
        """As torch, but codes of another type are an error: torch would round them into this layer's."""
        errors = lists[-1]
        for name, buffer in self.named_buffers(recurse=False):
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and saved.dtype != buffer.dtype:
                errors.append(f"{type(self).__name__}: {prefix}{name} must be {buffer.dtype}; got {saved.dtype}")
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, *lists)
