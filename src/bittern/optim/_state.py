# SPDX-License-Identifier: Apache-2.0
"""The state dict of one parameter: made at its first step, brought along when storage, device or layout change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.ops.optimizer_step import State, state_table
from bittern.optim._layout import (
    Layout,
    allocate,
    decode,
    encode,
    equivalent,
    is_sharded,
    layout_for,
    local_tensor,
    stored_layout,
)
from bittern.optim._options import STORAGE, Group
from bittern.optim._shards import any_over_shards

StateDict = dict[str, Any]


def create(state: StateDict, p: Tensor, specs: Sequence[State], group: Group, initial: Callable[[str], float]) -> None:
    """Adds the missing states of `specs` to `state`, in the storage that the group asks for."""
    layout = layout_for(p, group)
    for name, signed in specs:
        if name not in state:
            value = initial(name)
            if value == 0.0:
                store(state, name, allocate(p, signed, layout))
            else:
                store(state, name, encode(p, torch.full_like(local_tensor(p), value), signed, layout))
    if keeps_compensation(p, group) and "compensation" not in state:
        state["compensation"] = torch.zeros_like(p, memory_format=torch.preserve_format)


def keeps_compensation(p: Tensor, group: Group) -> bool:
    """Whether `p` has a Kahan buffer."""
    return bool(group["rounding"] == "kahan" and p.dtype != torch.float32)


def store(state: StateDict, name: str, stored: tuple[Tensor, Tensor | None]) -> None:
    """Puts (values or codes, absmax) into a state dict."""
    state[name], absmax = stored
    state.pop(f"{name}_absmax", None)
    if absmax is not None:
        state[f"{name}_absmax"] = absmax


def conform(
    owner: str, state: StateDict, p: Tensor, specs: Sequence[State], group: Group, strides: tuple[int, ...] | None
) -> None:
    """Moves the states of `p` to its device and rewrites those whose storage or memory order is not the wanted one.

    strides: those of `p` when its states were made, None for its present ones.
    """
    wanted = layout_for(p, group)
    for name, signed in specs:
        values, absmax = state[name].to(p.device), state.get(f"{name}_absmax")
        absmax = None if absmax is None else absmax.to(p.device)
        try:
            found = stored_layout(p, values, absmax)
        except ValueError as error:
            raise ValueError(
                f"{owner}: state {name!r} of a parameter {list(p.shape)} is {error}; "
                "make a new optimizer after a change of shape"
            ) from None
        if not equivalent(found, wanted) or not _same_order(p, values, found, strides):
            floats = as_floats(p, values, absmax, signed, found, strides)
            values, absmax = encode(p, floats, signed, wanted)
        elif absmax is None and values.dtype != torch.float32:
            values = values.float()
        if values is not state[name]:
            store(state, name, (values, absmax))
    _conform_compensation(state, p, group)


def _conform_compensation(state: StateDict, p: Tensor, group: Group) -> None:
    old = state.pop("compensation", None)
    if not keeps_compensation(p, group):
        return
    if old is not None and old.device == p.device and old.dtype == p.dtype and old.stride() == p.stride():
        state["compensation"] = old
        return
    state["compensation"] = torch.zeros_like(p, memory_format=torch.preserve_format)
    if old is not None:
        state["compensation"].copy_(old)


def check_offload(owner: str, p: Tensor) -> None:
    """ValueError unless the states of `p` can live in host memory."""
    if p.device.type != "cuda":
        raise ValueError(
            f'{owner}: offload="cpu" is for CUDA parameters; got one on {p.device}; leave offload out there'
        )
    if is_sharded(p):
        raise ValueError(f'{owner}: offload="cpu" takes whole parameters; got a DTensor; use FSDP\'s CPUOffloadPolicy')


def offload(state: StateDict, specs: Sequence[State]) -> None:
    """Puts the states and their absmax into pinned host memory, where they are not there yet."""
    for name, _ in specs:
        for key in (name, f"{name}_absmax"):
            value = state.get(key)
            if value is not None and not (value.is_cpu and value.is_pinned()):
                state[key] = torch.empty_like(value, device="cpu", pin_memory=True).copy_(value)


def as_floats(
    p: Tensor,
    values: Tensor,
    absmax: Tensor | None,
    signed: bool,
    layout: Layout,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """The float32 values of a state of `p` in p's local shape."""
    if absmax is None:
        return local_tensor(values).float()
    return decode(p, values, absmax, state_table(signed, layout.bits), layout, strides)


def _same_order(p: Tensor, values: Tensor, layout: Layout, strides: tuple[int, ...] | None) -> bool:
    p, values = local_tensor(p), local_tensor(values)
    made = (strides or p.stride()) if layout.bits == 4 else values.stride()
    dense = torch.empty_like(p, device="meta", memory_format=torch.preserve_format).stride()
    return all(a == b for a, b, size in zip(made, dense, p.shape, strict=True) if size > 1)


def alike(group: Group, params: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """`params` in order, split where one native call cannot take them together: by device and by Kahan buffer."""
    if len({p.device for p in params}) == 1 and group["rounding"] != "kahan":
        yield list(params)
        return
    parts: dict[tuple[torch.device, bool], list[Tensor]] = {}
    for p in params:
        parts.setdefault((p.device, keeps_compensation(p, group)), []).append(p)
    yield from parts.values()


def describe(group: Group) -> tuple[Any, ...]:
    """What a prepared batch depends on beside its tensors."""
    return (*(group[name] for name in STORAGE), group.get("capturable"))


def check_dense(owner: str, params: Sequence[Tensor]) -> None:
    """RuntimeError for a sparse gradient."""
    for p in params:
        if p.grad is not None and p.grad.layout is not torch.strided:
            raise RuntimeError(f"{owner}: sparse gradients are not supported; use sparse=False or SparseAdam")


def check_finite(owner: str, params: Sequence[Tensor]) -> None:
    """FloatingPointError if a gradient is not finite, on every process that holds shards of `params`."""
    grads = [local_tensor(p.grad) for p in params if p.grad is not None]
    grads = [grad for grad in grads if grad.numel()]
    norms = torch._foreach_norm(grads, float("inf")) if grads else ()
    bad = next((g for g, norm in zip(grads, norms, strict=True) if not bool(torch.isfinite(norm))), None)
    what = "on another process" if bad is None else f"of a parameter {list(bad.shape)}"
    if any_over_shards(params, bad is not None):
        raise FloatingPointError(
            f"{owner}: the gradient {what} is not finite; nothing was changed "
            '(nonfinite="skip" leaves such elements as they are)'
        )
