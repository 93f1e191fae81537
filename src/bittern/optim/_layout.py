# SPDX-License-Identifier: Apache-2.0
"""How one optimizer state lies in memory: 32-bit floats, or codes of 8 or 4 bits with the scales of their blocks.

8 bits: uint8 codes of the parameter's shape and strides. 4 bits: uint8 [rows, ceil(row_length / 2)], the first element
in the high nibble. Blocks of `block_size` elements follow the parameter's memory order and restart every `row_length`
elements: the whole tensor is one row, but a sharded DTensor has one row per index of dimension 0, so that shards never
cut a block. absmax: float32 [blocks], or [rows, blocks per row] for a DTensor; squares in 4 bits have two numbers a
block, [blocks, 2] or [rows, blocks per row, 2], unless they go to nearest entries of a table
(`bittern.ops.optimizer_step.log_codes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.ops import dequantize_blockwise, quantize_blockwise
from bittern.ops.optimizer_step import State, Storage, state_table, storage_of
from bittern.ops.optimizer_step.check import is_dense
from bittern.ops.optimizer_step.layout import to_units
from bittern.ops.optimizer_step.log_codes import decode_ratios, decode_squares, encode_ratios, encode_squares
from bittern.ops.optimizer_step.random_squares import neighbour
from bittern.optim._names import has_levels
from bittern.optim._options import DEFAULT_BLOCK, LARGEST_BLOCK, ROUNDING_OF_8_BITS, SMALLEST_BLOCK

STATE_BITS_ATTRIBUTE = "optimizer_state_bits"
"""A parameter (or, for `param_groups`, a module) with this attribute has its states in that many bits."""


class Layout(NamedTuple):
    """Storage of the states of one parameter."""

    bits: int
    block_size: int
    rows: int
    row_length: int
    logarithmic: bool = False
    """Whether 4 bits are those of log_codes."""

    @property
    def blocks_per_row(self) -> int:
        return -(-self.row_length // self.block_size)

    @property
    def padded_length(self) -> int:
        """Elements of a row in whole blocks."""
        return self.blocks_per_row * self.block_size

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


def first_element(p: Tensor) -> int:
    """The number, within the whole parameter, of the first element that this process has."""
    if not is_sharded(p) or not p.ndim:
        return 0
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    _, offset = compute_local_shape_and_global_offset(p.shape, p.device_mesh, p.placements)  # type: ignore[attr-defined]
    return int(offset[0]) * (p.numel() // p.shape[0]) if p.numel() else 0


def flat(t: Tensor) -> Tensor:
    """The elements of a dense tensor in memory order, as a view."""
    return t.as_strided((t.numel(),), (1,), t.storage_offset())


def layout_for(p: Tensor, group: Mapping[str, Any]) -> Layout:
    """The layout that `group` asks for; small parameters keep 32 bits."""
    local = local_tensor(p)
    rows = local.shape[0] if is_sharded(p) and local.ndim > 0 else 1
    if rows:
        row_length = local.numel() // rows
    else:  # an empty shard is stored as the others are, for files are written together
        row_length = p.numel() // max(1, p.shape[0])
    bits = getattr(p, STATE_BITS_ATTRIBUTE, group["state_bits"])
    if p.numel() < group["min_8bit_size"] or row_length < 2:
        bits = 32
    logarithmic = bits == 4 and group["state_rounding"] == "stochastic"
    return Layout(bits, group["block_size"] or DEFAULT_BLOCK[bits], rows, row_length, logarithmic)


def at_random(p: Tensor, group: Mapping[str, Any]) -> bool:
    """Whether states of `p` are rounded at random."""
    layout = layout_for(p, group)
    return layout.logarithmic or (layout.bits == 8 and group[ROUNDING_OF_8_BITS] == "stochastic")


def _like(p: Tensor, local: Tensor, shape: tuple[int, ...], placements: Sequence[Any] | None = None) -> Tensor:
    """`local` as a DTensor with global `shape`, sharded like `p` or by `placements`; itself if `p` is no DTensor."""
    if not is_sharded(p):
        return local
    from torch.distributed.tensor import DTensor

    stride = p.stride() if shape == tuple(p.shape) else torch.empty(shape, device="meta").stride()
    return DTensor.from_local(
        local,
        p.device_mesh,  # type: ignore[attr-defined]
        placements or p.placements,  # type: ignore[attr-defined]
        run_check=False,
        shape=torch.Size(shape),
        stride=stride,
    )


def means_like(p: Tensor, dim: int | None) -> Tensor:
    """float32 zeros of p's shape, with one in place of the size of `dim`: a state of means over it.

    Of a DTensor they are sharded like it, and whole on every process where `dim` is the sharded one.
    """
    local = local_tensor(p.detach())
    shape, here = list(p.shape), list(local.shape)
    if dim is not None:
        shape[dim] = here[dim] = 1
    zeros = torch.zeros(here, dtype=torch.float32, device=local.device)
    if not is_sharded(p) or dim is None:
        return _like(p, zeros, tuple(shape))
    from torch.distributed.tensor import Replicate

    cut = [place.is_shard(dim % p.ndim) for place in p.placements]  # type: ignore[attr-defined]
    placements = [Replicate() if c else place for c, place in zip(cut, p.placements, strict=True)]  # type: ignore[attr-defined]
    return _like(p, zeros, tuple(shape), placements)


def wrap(
    p: Tensor, storage: Storage, layout: Layout, values: Tensor, absmax: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Local values or codes of `p`, and their scales, as DTensors where `p` is one."""
    if storage.bits != 4:
        values = _like(p, values, tuple(p.shape))
    elif is_sharded(p):
        values = _like(p, values, (p.shape[0], values.shape[1]))
    if absmax is not None and is_sharded(p):
        shape = layout.blocks_per_row, *_scale_shape(storage)
        absmax = _like(p, absmax.view(layout.rows, *shape), (p.shape[0], *shape))
    return values, absmax


def _scale_shape(storage: Storage) -> tuple[int, ...]:
    """Of one block."""
    return (storage.scales,) if storage.scales > 1 else ()


def allocate(p: Tensor, state: State, layout: Layout) -> tuple[Tensor, Tensor | None]:
    """A state of zeros for `p`: (float32 values, None) or (codes, scales)."""
    local = local_tensor(p.detach())
    storage = storage_of(state, layout.bits, layout.logarithmic)
    if storage is Storage.FLOATS:
        values = torch.zeros_like(local, dtype=torch.float32, memory_format=torch.preserve_format)
        return wrap(p, storage, layout, values, None)
    absmax = torch.zeros(layout.blocks, *_scale_shape(storage), dtype=torch.float32, device=local.device)
    tabled = storage in (Storage.BYTES, Storage.NIBBLES)
    zero = int(state_table(state.signed, storage.bits).abs().argmin()) if tabled else 0
    if storage is Storage.BYTES:
        codes = torch.full_like(local, zero, dtype=torch.uint8, memory_format=torch.preserve_format)
    else:
        shape = (layout.rows, -(-layout.row_length // 2))
        codes = torch.full(shape, zero * 16 + zero, dtype=torch.uint8, device=local.device)
    return wrap(p, storage, layout, codes, absmax)


def _ordered(p: Tensor, values: Tensor) -> Tensor:
    """Float values of `p`'s local shape in its memory order."""
    local = local_tensor(p.detach())
    return torch.empty_like(local, dtype=torch.float32, memory_format=torch.preserve_format).copy_(values)


def _in_blocks(elements: Tensor, layout: Layout) -> Tensor:
    """A number per element, in memory order -> [blocks, block_size], with zeros behind short ones."""
    rows = elements.reshape(layout.rows, layout.row_length)
    padded = torch.nn.functional.pad(rows, (0, layout.padded_length - layout.row_length))
    return padded.reshape(-1, layout.block_size)


def encode(
    p: Tensor,
    values: Tensor,
    state: State,
    layout: Layout,
    square: Tensor | None = None,
    chance: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Float values of `p`'s local shape, any layout, as a state stored by `layout`; codes are the nearest.

    square: the values of the rule's first square, which a relative state in 4 bits needs. chance: U in [0, 1) by
    element in memory order, by which the entries of a table are rounded at random.
    """
    ordered = _ordered(p, values)
    storage = storage_of(state, layout.bits, layout.logarithmic)
    if storage is Storage.FLOATS:
        return wrap(p, storage, layout, ordered, None)
    blocks = _in_blocks(flat(ordered), layout)
    if storage is Storage.LOGARITHMS:
        found, absmax = encode_squares(blocks, 0.5)
    elif storage is Storage.RATIOS:
        assert square is not None
        found, absmax = encode_ratios(blocks, _in_blocks(flat(_ordered(p, square)), layout), 0.5)
    else:
        code = state_table(state.signed, storage.bits).to(ordered.device)
        if chance is None:
            keep = not state.signed and storage is Storage.BYTES
            found, absmax = quantize_blockwise(blocks.flatten(), code, layout.block_size, keep_nonzero=keep)
        else:
            units, absmax = to_units(blocks)
            found = neighbour(code, units, _in_blocks(chance, layout))
    indices = found.view(layout.rows, layout.padded_length)[:, : layout.row_length]
    if storage is Storage.BYTES:
        codes = torch.empty_like(ordered, dtype=torch.uint8, memory_format=torch.preserve_format)
        flat(codes).copy_(indices.reshape(-1))
    else:
        indices = torch.nn.functional.pad(indices, (0, layout.row_length % 2)).to(torch.uint8)
        codes = indices[:, 0::2] * 16 + indices[:, 1::2]
    return wrap(p, storage, layout, codes, absmax)


def decode(
    p: Tensor,
    codes: Tensor,
    absmax: Tensor,
    state: State,
    layout: Layout,
    *,
    square: Tensor | None = None,
    table: Tensor | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """The float32 values of a quantized state in `p`'s local shape, strided as the codes are.

    square: the decoded values of the rule's first square, which a relative state in 4 bits needs. table: of codes that
    are not this package's. 4-bit codes have no strides of their own: `strides` is the memory order they were made in,
    None that of `p`.
    """
    codes, absmax = local_tensor(codes), local_tensor(absmax)
    local = local_tensor(p.detach())
    if strides is not None:
        local = torch.empty_strided(local.shape, strides, dtype=local.dtype, device="meta")
    storage = storage_of(state, layout.bits, layout.logarithmic)
    if storage is Storage.BYTES:
        if not is_dense(codes):
            codes = codes.contiguous()
        indices = flat(codes)
        values = torch.empty_like(codes, dtype=torch.float32, memory_format=torch.preserve_format)
    else:
        pairs = codes.reshape(layout.rows, -(-layout.row_length // 2))
        indices = torch.stack((pairs >> 4, pairs & 15), dim=2).flatten(1)[:, : layout.row_length]
        values = torch.empty_like(local, dtype=torch.float32, device=codes.device, memory_format=torch.preserve_format)
    blocks = _in_blocks(indices, layout)
    if storage is Storage.LOGARITHMS:
        decoded = decode_squares(blocks, absmax.reshape(-1, 2))
    elif storage is Storage.RATIOS:
        assert square is not None
        beside = torch.empty_like(values).copy_(square)
        decoded = decode_ratios(blocks, absmax.flatten(), _in_blocks(flat(beside), layout))
    else:
        table = state_table(state.signed, storage.bits) if table is None else table
        decoded = dequantize_blockwise(blocks.flatten(), absmax.flatten(), table.to(codes.device), layout.block_size)
    flat(values).copy_(decoded.view(layout.rows, layout.padded_length)[:, : layout.row_length].reshape(-1))
    return values


def stored_layout(p: Tensor, state: Tensor, absmax: Tensor | None, storage: Storage | None = None) -> Layout:
    """The layout of an existing state of `p`, read off its shapes; ValueError if they fit no layout.

    storage: what its name says, where it has come from a file. Two block sizes give the same number of blocks only
    where every row is one block; then they mean the same.
    """
    wanted = layout_for(p, {"state_bits": 32, "min_8bit_size": 0, "block_size": SMALLEST_BLOCK, "state_rounding": ""})
    same_shape = tuple(state.shape) == tuple(p.shape)
    if absmax is None:
        if same_shape and state.is_floating_point():
            return wanted._replace(bits=32)
        raise ValueError(f"a state of {state.dtype} {list(state.shape)} without absmax")
    two = storage is Storage.LOGARITHMS if storage else has_levels(absmax)
    state, absmax = local_tensor(state), local_tensor(absmax)
    layout = wanted._replace(bits=8 if same_shape else 4, logarithmic=two or storage is Storage.RATIOS)
    pairs = wanted.rows * -(-wanted.row_length // 2)
    if state.dtype == torch.uint8 and ((same_shape and not two) or state.numel() == pairs):
        while layout.block_size <= LARGEST_BLOCK:
            if layout.blocks * (1 + two) == absmax.numel():
                return layout
            layout = layout._replace(block_size=2 * layout.block_size)
    raise ValueError(f"codes {state.dtype} {list(state.shape)} with {absmax.numel()} {'levels' if two else 'blocks'}")


def own_layout(state: State, layout: Layout) -> Layout:
    """`layout` as it is for this state: one of 4 bits may have 8, or entries of a table beside logarithmic squares."""
    storage = storage_of(state, layout.bits, layout.logarithmic)
    return layout._replace(bits=storage.bits, logarithmic=storage in (Storage.LOGARITHMS, Storage.RATIOS))


def equivalent(a: Layout, b: Layout) -> bool:
    """Whether two layouts of one parameter mean the same bytes."""
    same = a.bits == b.bits and a.logarithmic == b.logarithmic
    return same and (a.bits == 32 or a.blocks == b.blocks)
