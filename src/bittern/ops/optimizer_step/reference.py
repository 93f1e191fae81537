# SPDX-License-Identifier: Apache-2.0
"""The meaning of `optimizer_step` in plain torch: decode the states of a tensor, apply the rule, encode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bittern.ops._random import random32
from bittern.ops.codebooks import boundaries
from bittern.ops.optimizer_step.arguments import StepArguments
from bittern.ops.optimizer_step.layout import DRAW, Storage, state_table, storage_of, to_units
from bittern.ops.optimizer_step.log_codes import decode_ratios, decode_squares, encode_ratios, encode_squares
from bittern.ops.optimizer_step.random_squares import encode_random_squares, neighbour
from bittern.ops.optimizer_step.rules import SPECS, Rule, RuleSpec, States


class Blocks(NamedTuple):
    """How the codes of a tensor lie: a block has `size` elements, and blocks start anew every `row` elements."""

    numel: int
    size: int
    row: int

    def of(self, values: Tensor) -> Tensor:
        """[numel] -> [blocks, size], with zeros behind short ones."""
        rows = values.reshape(-1, self.row)
        padded = torch.nn.functional.pad(rows, (0, -self.row % self.size))
        return padded.reshape(-1, self.size)

    def flat(self, blocks: Tensor) -> Tensor:
        """[blocks, size] -> [numel]."""
        return blocks.reshape(self.numel // self.row, -1)[:, : self.row].reshape(self.numel)


def optimizer_step_reference(a: StepArguments) -> None:
    """One step of every tensor, one after the other."""
    spec = SPECS[Rule(a.rule)]
    count, first = len(spec.states), 0
    for i, (p, g) in enumerate(zip(a.params, a.grads, strict=True)):
        row = a.scalars[i if len(a.scalars) > 1 else 0].tolist()
        s = dict(zip(spec.scalars, row, strict=True))
        mine = slice(i * count, (i + 1) * count)
        stored, scales = a.states[mine], a.absmax[mine]
        blocks = Blocks(p.numel(), a.block_size[i], max(1, a.row_length[i]))
        at_random = a.state_seeds is not None and a.bits[i] in a.at_random
        storages = [storage_of(state, a.bits[i], at_random) for state in spec.states]
        chances = _chances(a.state_seeds, i, len(storages), p.numel()) if at_random else None
        old = decoded(spec, storages, stored, scales, blocks)
        flat = _memory(p)
        new_p, new = _skipping(spec, flat.float(), _memory(g).float() * s["grad_scale"], old, s)
        lost = _memory(a.compensation[i]) if a.compensation else None
        random = None if a.seed is None else random32(a.seed, torch.arange(p.numel()) + first)
        _store(flat, new_p, lost, random)
        _encode_all(spec, storages, stored, scales, new, blocks, chances)
        first += p.numel()


def _memory(x: Tensor) -> Tensor:
    """A dense tensor's elements in the order of memory, as a view."""
    return x.detach().as_strided((x.numel(),), (1,))


def _chances(seeds: Tensor | None, tensor: int, states: int, numel: int) -> list[Tensor] | None:
    """U of every state of a tensor, [numel]: 16 bits of a draw for each two states, the lower ones for the first."""
    if seeds is None:
        return None
    seed = int(seeds[tensor if len(seeds) > 1 else 0]) % 2**64
    draws = [random32((seed + pair * DRAW) % 2**64, torch.arange(numel)) for pair in range((states + 1) // 2)]
    return [(draws[k // 2] >> 16 * (k % 2) & 0xFFFF).float() * 2.0**-16 for k in range(states)]


def decoded(
    spec: RuleSpec, storages: Sequence[Storage], stored: Sequence[Tensor], scales: Sequence[Tensor], blocks: Blocks
) -> States:
    """Float32 states [numel]; a signed one is 0 where a square of the same element is 0 (codes only)."""
    if not blocks.numel:
        return tuple(torch.empty(0) for _ in storages)
    found: list[Tensor] = [torch.empty(0)] * len(storages)
    parts = list(zip(spec.states, storages, stored, scales, strict=True))
    squares = [k for k, state in enumerate(spec.states) if not state.signed]
    for k in (*squares, *(k for k in range(len(parts)) if k not in squares)):
        state, storage, place, scale = parts[k]
        found[k] = _decode(place, scale, state.signed, storage, blocks, found[squares[0]] if squares else None)
    if squares and storages[0] is not Storage.FLOATS:
        gate = found[squares[0]] == 0
        gated = [state.signed and not state.exact for state in spec.states]
        found = [v.masked_fill(gate, 0.0) if yes else v for yes, v in zip(gated, found, strict=True)]
    return tuple(found)


def _skipping(spec: RuleSpec, p: Tensor, g: Tensor, old: States, s: Mapping[str, float]) -> tuple[Tensor, States]:
    """The rule, but elements whose gradient or new states are not finite keep everything, and count for no norm."""
    usable = g.isfinite()
    for value in spec.update(p, torch.where(usable, g, 0.0), old, s)[1]:
        usable &= value.isfinite()
    new_p, new = spec.update(p, torch.where(usable, g, 0.0), old, s)
    kept = [torch.where(usable, a, b) for a, b in zip(new, old, strict=True)]
    return torch.where(usable, new_p, p), tuple(kept)


def _codes(place: Tensor, storage: Storage, blocks: Blocks) -> Tensor:
    """One code per element, from bytes or from nibbles (the first element in the high one; a row starts a byte)."""
    flat = _memory(place)
    if storage is Storage.BYTES:
        return flat.long()
    nibbles = torch.stack([flat >> 4, flat & 15], dim=-1)
    return nibbles.reshape(-1, blocks.row + blocks.row % 2)[:, : blocks.row].reshape(blocks.numel).long()


def _decode(
    place: Tensor, scale: Tensor, signed: bool, storage: Storage, blocks: Blocks, square: Tensor | None
) -> Tensor:
    """square: the decoded one that ratios are relative to."""
    if storage is Storage.FLOATS:
        return _memory(place).clone()
    codes = blocks.of(_codes(place, storage, blocks))
    if storage is Storage.LOGARITHMS:
        return blocks.flat(decode_squares(codes, scale.reshape(-1, 2)))
    if storage is Storage.RATIOS:
        assert square is not None
        return blocks.flat(decode_ratios(codes, scale.reshape(-1), blocks.of(square)))
    return blocks.flat(state_table(signed, storage.bits)[codes] * scale.reshape(-1)[:, None])


def _encode_all(
    spec: RuleSpec,
    storages: Sequence[Storage],
    stored: Sequence[Tensor],
    scales: Sequence[Tensor],
    values: States,
    blocks: Blocks,
    chances: Sequence[Tensor] | None,
) -> None:
    square = next((v for state, v in zip(spec.states, values, strict=True) if not state.signed), None)
    for k, (state, storage) in enumerate(zip(spec.states, storages, strict=True)):
        if storage is Storage.FLOATS:
            _memory(stored[k]).copy_(values[k])
        elif blocks.numel:
            nearest = storage is Storage.BYTES and state.signed
            chance = None if chances is None or nearest else blocks.of(chances[k])
            beside = None if square is None else blocks.of(square)
            codes, scale = encoded(state.signed, storage, blocks.of(values[k]), beside, chance)
            flat = blocks.flat(codes)
            if storage is not Storage.BYTES:
                pairs = torch.nn.functional.pad(flat.reshape(-1, blocks.row), (0, blocks.row % 2)).reshape(-1, 2)
                flat = pairs[:, 0] << 4 | pairs[:, 1]
            _memory(stored[k]).copy_(flat.to(torch.uint8))
            scales[k].copy_(scale.reshape(scales[k].shape))


def encoded(
    signed: bool, storage: Storage, values: Tensor, square: Tensor | None, chance: Tensor | None
) -> tuple[Tensor, Tensor]:
    """values, square, chance: [blocks, n] -> (codes [blocks, n], scales); chance None rounds to nearest."""
    if storage is Storage.LOGARITHMS:
        return encode_squares(values, 0.5 if chance is None else chance)
    if storage is Storage.RATIOS:
        assert square is not None
        return encode_ratios(values, square, 0.5 if chance is None else chance)
    table = state_table(signed, storage.bits)
    y, largest = to_units(values)
    if chance is not None:
        return (neighbour if storage is Storage.NIBBLES else encode_random_squares)(table, y, chance), largest
    codes = torch.bucketize(y, boundaries(table), right=True)
    if not signed and storage is Storage.BYTES:
        codes = torch.where((y > 0) & (codes == 0), 1, codes)
    return codes, largest


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
