# SPDX-License-Identifier: Apache-2.0
"""How one optimizer state lies in memory: 32-bit floats, or codes of 8 or 4 bits with one absmax per block.

8 bits: uint8 codes of the parameter's shape and strides. 4 bits: uint8 [rows, ceil(row_length / 2)], the first element
in the high nibble. Blocks of `block_size` elements follow the parameter's memory order and restart every `row_length`
elements: the whole tensor is one row, but a sharded DTensor has one row per index of dimension 0, so that shards never
cut a block. absmax: float32 [blocks], or [rows, blocks per row] for a DTensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.ops import dequantize_blockwise, quantize_blockwise
from bittern.ops.optimizer_step import state_table
from bittern.ops.optimizer_step.check import is_dense
from bittern.optim._options import DEFAULT_BLOCK, LARGEST_BLOCK, SMALLEST_BLOCK

STATE_BITS_ATTRIBUTE = "optimizer_state_bits"
"""A parameter (or, for `param_groups`, a module) with this attribute has its states in that many bits."""


class Layout(NamedTuple):
    """Storage of the states of one parameter."""

    bits: int
    block_size: int
    rows: int
    row_length: int

    @property
    def blocks_per_row(self) -> int:
        return -(-self.row_length // self.block_size)

    @property
    def blocks(self) -> int:
        return self.rows * self.blocks_per_row


def local_tensor(t: Tensor) -> Tensor:
    """The shard of a DTensor that this process holds; any other tensor itself."""
    to_local = getattr(t, "to_local", None)
    return t if to_local is None else to_local()


def is_sharded(t: Tensor) -> bool:
    """Whether `t` is a DTensor."""
    return hasattr(t, "to_local")


def flat(t: Tensor) -> Tensor:
    """The elements of a dense tensor in memory order, as a view."""
    return t.as_strided((t.numel(),), (1,), t.storage_offset())


def layout_for(p: Tensor, group: Mapping[str, Any]) -> Layout:
    """The layout that `group` asks for; small parameters keep 32 bits."""
    local = local_tensor(p)
    rows = local.shape[0] if is_sharded(p) and local.ndim > 0 else 1
    row_length = local.numel() // rows if rows else 0
    bits = getattr(p, STATE_BITS_ATTRIBUTE, group["state_bits"])
    if p.numel() < group["min_8bit_size"] or row_length < 2:
        bits = 32
    return Layout(bits, group["block_size"] or DEFAULT_BLOCK[bits], rows, row_length)


def _like(p: Tensor, local: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`local` as a DTensor sharded like `p` with global `shape`, or `local` itself if `p` is no DTensor."""
    if not is_sharded(p):
        return local
    from torch.distributed.tensor import DTensor

    stride = p.stride() if tuple(shape) == tuple(p.shape) else (*(shape[1:]), 1)
    return DTensor.from_local(
        local,
        p.device_mesh,  # type: ignore[attr-defined]
        p.placements,  # type: ignore[attr-defined]
        run_check=False,
        shape=torch.Size(shape),
        stride=stride,
    )


def wrap(p: Tensor, layout: Layout, values: Tensor, absmax: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Local values or codes of `p`, and their absmax, as DTensors where `p` is one."""
    if layout.bits != 4:
        values = _like(p, values, tuple(p.shape))
    elif is_sharded(p):
        values = _like(p, values, (p.shape[0], values.shape[1]))
    if absmax is not None and is_sharded(p):
        absmax = _like(p, absmax.view(layout.rows, -1), (p.shape[0], layout.blocks_per_row))
    return values, absmax


def allocate(p: Tensor, signed: bool, layout: Layout) -> tuple[Tensor, Tensor | None]:
    """A state of zeros for `p`: (float32 values, None) or (codes, absmax)."""
    local = local_tensor(p.detach())
    if layout.bits == 32:
        values = torch.zeros_like(local, dtype=torch.float32, memory_format=torch.preserve_format)
        return wrap(p, layout, values, None)
    zero = int(state_table(signed, layout.bits).abs().argmin())
    absmax = torch.zeros(layout.blocks, dtype=torch.float32, device=local.device)
    if layout.bits == 8:
        codes = torch.full_like(local, zero, dtype=torch.uint8, memory_format=torch.preserve_format)
    else:
        shape = (layout.rows, -(-layout.row_length // 2))
        codes = torch.full(shape, zero * 16 + zero, dtype=torch.uint8, device=local.device)
    return wrap(p, layout, codes, absmax)


def encode(p: Tensor, values: Tensor, signed: bool, layout: Layout) -> tuple[Tensor, Tensor | None]:
    """Float values of `p`'s local shape, any layout, as a state stored by `layout`."""
    local = local_tensor(p.detach())
    ordered = torch.empty_like(local, dtype=torch.float32, memory_format=torch.preserve_format)
    ordered.copy_(values)
    if layout.bits == 32:
        return wrap(p, layout, ordered, None)
    size = layout.block_size
    rows = flat(ordered).view(layout.rows, layout.row_length)
    padded = torch.nn.functional.pad(rows, (0, layout.blocks_per_row * size - layout.row_length))
    code = state_table(signed, layout.bits).to(local.device)
    found, absmax = quantize_blockwise(padded.flatten(), code, size, keep_nonzero=not signed and layout.bits == 8)
    indices = found.view(layout.rows, -1)[:, : layout.row_length]
    if layout.bits == 8:
        codes = torch.empty_like(local, dtype=torch.uint8, memory_format=torch.preserve_format)
        flat(codes).copy_(indices.reshape(-1))
    else:
        indices = torch.nn.functional.pad(indices, (0, layout.row_length % 2))
        codes = indices[:, 0::2] * 16 + indices[:, 1::2]
    return wrap(p, layout, codes, absmax)


def decode(
    p: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, layout: Layout, strides: tuple[int, ...] | None = None
) -> Tensor:
    """The float32 values of a quantized state in `p`'s local shape, strided as the codes are.

    4-bit codes have no strides of their own: `strides` is the memory order they were made in, None that of `p`.
    """
    codes, absmax = local_tensor(codes), local_tensor(absmax)
    local = local_tensor(p.detach())
    if strides is not None:
        local = torch.empty_strided(local.shape, strides, dtype=local.dtype, device="meta")
    if layout.bits == 8:
        if not is_dense(codes):
            codes = codes.contiguous()
        indices = flat(codes).view(layout.rows, layout.row_length)
        values = torch.empty_like(codes, dtype=torch.float32, memory_format=torch.preserve_format)
    else:
        pairs = codes.reshape(layout.rows, -1)
        indices = torch.stack((pairs >> 4, pairs & 15), dim=2).flatten(1)[:, : layout.row_length]
        values = torch.empty_like(local, dtype=torch.float32, device=codes.device, memory_format=torch.preserve_format)
    size = layout.block_size
    padded = torch.nn.functional.pad(indices, (0, layout.blocks_per_row * size - layout.row_length))
    decoded = dequantize_blockwise(padded.flatten(), absmax.flatten(), code.to(codes.device), size)
    flat(values).copy_(decoded.view(layout.rows, -1)[:, : layout.row_length].reshape(-1))
    return values


def stored_layout(p: Tensor, state: Tensor, absmax: Tensor | None) -> Layout:
    """The layout of an existing state of `p`, read off its shapes; ValueError if they fit no layout.

    Two block sizes give the same number of blocks only where every row is one block; then they mean the same.
    """
    wanted = layout_for(p, {"state_bits": 32, "min_8bit_size": 0, "block_size": SMALLEST_BLOCK})
    same_shape = tuple(state.shape) == tuple(p.shape)
    if absmax is None:
        if same_shape and state.is_floating_point():
            return wanted._replace(bits=32)
        raise ValueError(f"a state of {state.dtype} {list(state.shape)} without absmax")
    state, absmax = local_tensor(state), local_tensor(absmax)
    layout = wanted._replace(bits=8 if same_shape else 4)
    pairs = wanted.rows * -(-wanted.row_length // 2)
    if state.dtype == torch.uint8 and (same_shape or state.numel() == pairs):
        while layout.block_size <= LARGEST_BLOCK:
            if layout.blocks == absmax.numel():
                return layout
            layout = layout._replace(block_size=2 * layout.block_size)
    raise ValueError(f"codes {state.dtype} {list(state.shape)} with {absmax.numel()} blocks")


def equivalent(a: Layout, b: Layout) -> bool:
    """Whether two layouts of one parameter mean the same bytes."""
    return a.bits == b.bits and (a.bits == 32 or a.blocks == b.blocks)
