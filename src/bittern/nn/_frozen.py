# SPDX-License-Identifier: Apache-2.0
"""What the frozen low-bit linear layers share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from bittern.nn._check import check_tensor
from bittern.nn.cost import Cost, CostedLayer


def weight_of(owner: str, linear: nn.Module, dtypes: Collection[torch.dtype] | None = None) -> Tensor:
    """The weight that `owner` freezes. dtypes: those that it takes; None: all in floating point.

    Errors: TypeError unless it is an nn.Linear's and in numbers; ValueError unless finite.
    """
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"{owner}: it takes the place of an nn.Linear; got {type(linear).__name__}")
    weight = linear.weight.detach()
    shape = (linear.out_features, linear.in_features)
    if not weight.is_floating_point() or tuple(weight.shape) != shape:
        raise TypeError(
            f"{owner}: linear.weight must be numbers {list(shape)}; got {weight.dtype} {list(weight.shape)}; "
            "dequantize it first"
        )
    if dtypes is not None and weight.dtype not in dtypes:
        names = ", ".join(str(d).removeprefix("torch.") for d in dtypes)
        raise TypeError(f"{owner}: linear.weight must be {names}; got {weight.dtype}; call linear.float() first")
    problem = not_finite(weight)
    if problem:
        raise ValueError(f"{owner}: linear.weight must be finite; got {problem}; repair it first")
    return weight


def not_finite(weight: Tensor) -> str:
    """ "" for a finite weight, else e.g. "2 NaN and 1 inf, the first at [0, 3]"; a weight on meta counts as finite."""
    if weight.is_meta or bool(weight.isfinite().all()):
        return ""
    first = [int(i) for i in (~weight.isfinite()).nonzero()[0]]
    return f"{int(weight.isnan().sum())} NaN and {int(weight.isinf().sum())} inf, the first at {first}"


class FrozenLinear(CostedLayer):
    """Keeps scales and tables in buffers whose type no cast changes: `.half()` is about the arithmetic."""

    in_features: int
    out_features: int

    def cost(self, output: int) -> Cost:
        """Products in numbers, whatever holds the weight: codes, scales and tables are its buffers."""
        size = sum(buffer.nbytes for buffer in self.buffers(recurse=False))
        codes = self.in_features * self.out_features
        return Cost(output * self.in_features, 0, size, codes=codes, real=tuple(self.parameters(recurse=False)))

    def check_input(self, x: Tensor) -> None:
        """Errors: TypeError for what is no tensor, ValueError for another number of features."""
        owner = type(self).__name__
        check_tensor(owner, x)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"{owner}: x must be [..., {self.in_features}], features last; got {list(x.shape)}; "
                "give what is in front of it that many"
            )

    def check_codes(self) -> None:
        """Refuse codes and scales that no weight has, as a file may hold them. Raises: ValueError."""
        for name, buffer in self.named_buffers(recurse=False):
            if buffer.is_floating_point() and not bool(buffer.isfinite().all()):
                raise ValueError(f"{type(self).__name__}: {name} must be finite; got {not_finite(buffer)}")

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
