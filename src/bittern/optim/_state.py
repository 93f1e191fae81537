# SPDX-License-Identifier: Apache-2.0
"""The state dict of one parameter: made at its first step, brought along when storage, device or layout change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.ops.optimizer_step import State
from bittern.optim._layout import (
    Layout,
    allocate,
    decode,
    encode,
    equivalent,
    is_sharded,
    layout_for,
    local_tensor,
    own_layout,
    stored_layout,
)
from bittern.optim._options import STORAGE, Group
from bittern.optim._shards import any_over_shards

StateDict = dict[str, Any]


class Stored(NamedTuple):
    """One state as it lies in memory."""

    values: Tensor
    """Floats or codes."""
    absmax: Tensor | None
    layout: Layout
    table: Tensor | None = None
    """Of codes that are not this package's."""


def floats_of(
    p: Tensor, parts: Mapping[str, Stored], specs: Sequence[State], strides: tuple[int, ...] | None = None
) -> dict[str, Tensor]:
    """The float32 values of the states of `p` in its local shape, by name.

    strides: the memory order that 4-bit codes were made in, None that of `p`.
    """
    found: dict[str, Tensor] = {}
    square = first_square(specs)
    for spec in sorted(specs, key=lambda spec: spec.name != square):  # ratios need it
        values, absmax, layout, table = parts[spec.name]
        if absmax is None:
            found[spec.name] = local_tensor(values).float()
        else:
            beside = found.get(square) if square and spec.name != square else None
            found[spec.name] = decode(p, values, absmax, spec, layout, square=beside, table=table, strides=strides)
    return found


def decoded(state: StateDict, p: Tensor, specs: Sequence[State]) -> dict[str, Tensor]:
    """The float32 values of the states of `p` as they lie in a state dict, by name."""
    found: dict[str, Stored] = {}
    for spec in specs:
        values, absmax = state[spec.name], state.get(f"{spec.name}_absmax")
        found[spec.name] = Stored(values, absmax, stored_layout(p, values, absmax))
    layouts = with_ratios({name: part.layout for name, part in found.items()}, specs)
    return floats_of(p, {name: part._replace(layout=layouts[name]) for name, part in found.items()}, specs)


def stored_as(
    p: Tensor, floats: Mapping[str, Tensor], specs: Sequence[State], layout: Layout
) -> dict[str, tuple[Tensor, Tensor | None]]:
    """Values of all states of `p` as `layout` stores them, by name."""
    square = first_square(specs)
    beside = floats[square] if square else None
    return {spec.name: encode(p, floats[spec.name], spec, layout, beside) for spec in specs}


def first_square(specs: Sequence[State]) -> str | None:
    """The name of the square to whose root relative states are relative."""
    return next((spec.name for spec in specs if not spec.signed), None)


def with_ratios(layouts: Mapping[str, Layout], specs: Sequence[State]) -> dict[str, Layout]:
    """Layouts by name; a ratio looks like an entry of a table, but the square beside it tells."""
    square = first_square(specs)
    logarithmic = square is not None and layouts[square].logarithmic
    return {
        spec.name: layouts[spec.name]._replace(logarithmic=logarithmic)
        if spec.relative and layouts[spec.name].bits == 4
        else layouts[spec.name]
        for spec in specs
    }


def create(
    state: StateDict, p: Tensor, specs: Sequence[State], group: Group, initial: Callable[[str], float | Tensor]
) -> None:
    """Adds the missing states of `specs` to `state`, in the storage that the group asks for."""
    layout = layout_for(p, group)
    for spec in specs:
        if spec.name not in state:
            value = initial(spec.name)
            if isinstance(value, Tensor):
                store(state, spec.name, encode(p, value, spec, layout))
            elif value == 0.0:
                store(state, spec.name, allocate(p, spec, layout))
            else:
                store(state, spec.name, encode(p, torch.full_like(local_tensor(p), value), spec, layout))
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
    found: dict[str, Stored] = {}
    for spec in specs:
        values, absmax = state[spec.name].to(p.device), state.get(f"{spec.name}_absmax")
        absmax = None if absmax is None else absmax.to(p.device)
        try:
            found[spec.name] = Stored(values, absmax, stored_layout(p, values, absmax))
        except ValueError as error:
            raise ValueError(
                f"{owner}: state {spec.name!r} of a parameter {list(p.shape)} is {error}; "
                "make a new optimizer after a change of shape"
            ) from None
    layouts = with_ratios({name: part.layout for name, part in found.items()}, specs)
    found = {name: part._replace(layout=layouts[name]) for name, part in found.items()}
    if all(
        equivalent(found[spec.name].layout, own_layout(spec, wanted))
        and _same_order(p, found[spec.name].values, found[spec.name].layout, strides)
        for spec in specs
    ):
        for name, (values, absmax, *_) in found.items():
            values = values.float() if absmax is None else values
            if values is not state[name]:
                store(state, name, (values, absmax))
    else:
        for name, stored in stored_as(p, floats_of(p, found, specs, strides), specs, wanted).items():
            store(state, name, stored)
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
    for spec in specs:
        for key in (spec.name, f"{spec.name}_absmax"):
            value = state.get(key)
            if value is not None and not (value.is_cpu and value.is_pinned()):
                state[key] = torch.empty_like(value, device="cpu", pin_memory=True).copy_(value)


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
