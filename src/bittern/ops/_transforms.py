# SPDX-License-Identifier: Apache-2.0
"""What torch.func and forward-mode differentiation ask of an op.

torch.library takes a backward formula of an op, but neither a forward-mode one nor one that works inside torch.func:
there a tangent would get lost without a word. An op that has an `autograd.Function` is therefore called through it
where such a transform is active; any other op refuses a tangent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


class FrozenFunction(torch.autograd.Function):
    """The derivatives of an op: `forward`, `setup_context`, `backward`, `jvp` and `vmap`, all static.

    Every argument of the op is passed, by position; those at their defaults too.
    """


def transform_is_active() -> bool:
    """Whether torch.func (vmap, grad, jvp, ...) or forward-mode differentiation is going on."""
    inside: bool = torch._C._are_functorch_transforms_active()
    return inside or forward_ad._current_level >= 0


def passes_unseen(arguments: Iterable[Any]) -> bool:
    """Whether torch's dispatcher would only hand these arguments on to the kernel for the CPU.

    That is: plain tensors in main memory, none of which asks for a gradient, and no transform, mode, trace or profiler.
    """
    watched = (
        transform_is_active()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._get_tracing_state() is not None
        or torch._C._autograd._profiler_enabled()
    )
    if watched:
        return False
    asks = torch.is_grad_enabled()
    return all(
        type(a) in _PLAIN and a.is_cpu and a.layout is torch.strided and not (asks and a.requires_grad)
        for a in arguments
        if isinstance(a, Tensor)
    )


_PLAIN = (Tensor, torch.nn.Parameter)


def refuse_tangents(op: str, arguments: Iterable[Any]) -> None:
    """Raises: NotImplementedError where an argument of an op without forward-mode derivative has a tangent."""
    if forward_ad._current_level < 0:
        return
    tensors = [a for a in arguments if isinstance(a, Tensor)]
    if any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):  # type: ignore[no-untyped-call]
        raise NotImplementedError(
            f"{op}: it has no forward-mode derivative; got a tensor with a tangent; detach the tensor first"
        )


def refuse_weight(op: str, names: Sequence[str], asked: Sequence[bool], what: str = "a derivative") -> None:
    """Raises: NotImplementedError where one of the arguments that make up a frozen weight takes part."""
    taking_part = [name for name, one in zip(names, asked, strict=True) if one]
    if taking_part:
        raise NotImplementedError(
            f"{op}: the weight is frozen; got {what} of {', '.join(taking_part)}; dequantize the weight for that"
        )
