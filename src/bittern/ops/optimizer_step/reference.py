# SPDX-License-Identifier: Apache-2.0
"""The meaning of `optimizer_step` in plain torch: decode the states of a tensor, apply the rule, encode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bittern.ops._random import random32
from bittern.ops.codebooks import boundaries
from bittern.ops.optimizer_step.arguments import StepArguments
from bittern.ops.optimizer_step.layout import ABSMAX_LEAST, state_table
from bittern.ops.optimizer_step.rules import SPECS, Rule, RuleSpec, States


def optimizer_step_reference(a: StepArguments) -> None:
    """One step of every tensor, one after the other."""
    rule, params, grads, states, absmax, scalars, bits, block_size, row_length, compensation, seed = a
    spec = SPECS[Rule(rule)]
    count, first = len(spec.states), 0
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        row = scalars[i if len(scalars) > 1 else 0].tolist()
        s = dict(zip(spec.scalars, row, strict=True))
        mine = slice(i * count, (i + 1) * count)
        stored, scales = states[mine], absmax[mine]
        blocks = (bits[i], block_size[i], max(1, row_length[i]))
        old = _decoded(spec, p, stored, scales, *blocks)
        flat = _memory(p)
        new_p, new = _skipping(spec, flat.float(), _memory(g).float() * s["grad_scale"], old, s)
        lost = _memory(compensation[i]) if compensation else None
        _store(flat, new_p, lost, None if seed is None else random32(seed, torch.arange(p.numel()) + first))
        for state, place, scale, values in zip(spec.states, stored, scales, new, strict=True):
            _encode(place, scale, values, state.signed, *blocks)
        first += p.numel()


def _memory(x: Tensor) -> Tensor:
    """A dense tensor's elements in the order of memory, as a view."""
    return x.detach().as_strided((x.numel(),), (1,))


def _decoded(
    spec: RuleSpec, p: Tensor, stored: Sequence[Tensor], scales: Sequence[Tensor], bits: int, block: int, row: int
) -> States:
    """Float32 states; a signed one is 0 where a square of the same element is 0 (codes only)."""
    if bits == 32:
        return tuple(_memory(x).clone() for x in stored)
    values = [
        _decode(place, scale, state.signed, p.numel(), bits, block, row)
        for state, place, scale in zip(spec.states, stored, scales, strict=True)
    ]
    squares = [v for state, v in zip(spec.states, values, strict=True) if not state.signed]
    if squares:
        gate = squares[0] == 0
        values = [v.masked_fill(gate, 0.0) if state.signed else v for state, v in zip(spec.states, values, strict=True)]
    return tuple(values)


def _skipping(spec: RuleSpec, p: Tensor, g: Tensor, old: States, s: Mapping[str, float]) -> tuple[Tensor, States]:
    """The rule, but elements whose gradient or new states are not finite keep everything, and count for no norm."""
    usable = g.isfinite()
    for value in spec.update(p, torch.where(usable, g, 0.0), old, s)[1]:
        usable &= value.isfinite()
    new_p, new = spec.update(p, torch.where(usable, g, 0.0), old, s)
    kept = [torch.where(usable, a, b) for a, b in zip(new, old, strict=True)]
    return torch.where(usable, new_p, p), tuple(kept)


def _blocks(values: Tensor, block: int, row: int) -> Tensor:
    """[numel] -> [blocks, block], with blocks that start anew every `row` elements and zeros behind short ones."""
    rows = values.reshape(-1, row)
    padded = torch.nn.functional.pad(rows, (0, -row % block))
    return padded.reshape(-1, block)


def _codes(place: Tensor, numel: int, bits: int, row: int) -> Tensor:
    """One code per element, from bytes or from nibbles (the first element in the high one; a row starts a byte)."""
    flat = _memory(place)
    if bits == 8:
        return flat.long()
    nibbles = torch.stack([flat >> 4, flat & 15], dim=-1)
    return nibbles.reshape(-1, row + row % 2)[:, :row].reshape(numel).long()


def _decode(place: Tensor, scale: Tensor, signed: bool, numel: int, bits: int, block: int, row: int) -> Tensor:
    if not numel:
        return torch.empty(0)
    levels = state_table(signed, bits)[_codes(place, numel, bits, row)]
    scaled = _blocks(levels, block, row) * scale.reshape(-1, 1)
    return scaled.reshape(numel // row, -1)[:, :row].reshape(numel)


def _encode(place: Tensor, scale: Tensor, values: Tensor, signed: bool, bits: int, block: int, row: int) -> None:
    if bits == 32:
        _memory(place).copy_(values)
        return
    if not values.numel():
        return
    table = state_table(signed, bits)
    blocks = _blocks(values, block, row)
    largest = blocks.abs().amax(-1)
    largest = torch.where(largest >= ABSMAX_LEAST, largest, 0.0)
    inverse = torch.where(largest > 0, 1.0 / largest, 0.0)
    y = blocks * inverse[:, None]
    codes = torch.bucketize(y, boundaries(table), right=True)
    if not signed and bits == 8:
        codes = torch.where((y > 0) & (codes == 0), 1, codes)
    codes = codes.reshape(values.numel() // row, -1)[:, :row]
    if bits == 4:
        pairs = torch.nn.functional.pad(codes, (0, row % 2)).reshape(-1, 2)
        codes = pairs[:, 0] << 4 | pairs[:, 1]
    _memory(place).copy_(codes.reshape(-1).to(torch.uint8))
    scale.copy_(largest.reshape(scale.shape))


def _store(p: Tensor, new: Tensor, lost: Tensor | None, random: Tensor | None) -> None:
    """Rounds to the type of p: to nearest, with Kahan's compensation, or (bfloat16) by random bits."""
    if lost is not None and p.dtype != torch.float32:
        total = new + lost.float()
        p.copy_(total)
        lost.copy_(total - p.float())
    elif random is not None and p.dtype == torch.bfloat16:
        bits = new.view(torch.int32).long() & 0xFFFFFFFF
        up = (bits + (random & 0xFFFF)) & 0xFFFF0000
        rounded = torch.where(up >= 2**31, up - 2**32, up).to(torch.int32).view(torch.float32)
        p.copy_(torch.where(new.isfinite(), rounded, new))
    else:
        p.copy_(new)
