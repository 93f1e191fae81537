# SPDX-License-Identifier: Apache-2.0
"""Where values live that native code writes: real images in one arena, bits in buffers of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.arena import Life, placed
from bittern.deploy.engine.buffers import BufferPool
from bittern.deploy.form import Form
from bittern.deploy.program import Program

if TYPE_CHECKING:
    from bittern.deploy.engine.groups.group import Group

DTYPES = {"real": torch.float32, "int8": torch.int8}
"""Of values that lie as images, by the type of their form."""

CACHE_LINE = 64
"""Bytes: where each value begins."""

Values = dict[int, Any]


def with_rows(program: Program, forms: Mapping[int, Form]) -> dict[int, Form]:
    """The forms, where values of three dimensions are rows of features, if native code may read and write them so.

    It may where a program has low-bit layers over rows, and none over signals, whose channels are dimension 1: with
    both the same value may be read as either, and all are signals.
    """
    dims = {node.attrs["dims"] for node in program.nodes if node.kind in ("binary", "encode")}
    if 0 not in dims or 1 in dims:
        return dict(forms)
    rows = (value for value, form in forms.items() if len(form.shape) == 3 and form.samples_first)
    return {**forms, **{value: replace(forms[value], last=True, rows=True) for value in rows}}


def image_size(form: Form) -> tuple[int, int, int]:
    """(height, width, channels) of a value of one sample; a row of features is one pixel, several rows of features and
    a 1-d signal have height 1."""
    if form.rows:
        return 1, form.shape[1], form.shape[2]
    if form.last and len(form.shape) > 2:
        raise AssertionError(f"memory_plan: several rows of a sample, {list(form.shape)}, are no image here")
    channels, *space = form.shape[1:]
    height, width = [1] * (2 - len(space)) + space
    return height, width, channels


def as_torch_sees(images: Tensor, form: Form) -> Tensor:
    """NHWC memory -> the shape that torch gives such a value, without moving data."""
    if len(form.shape) == 2:
        return images.flatten(1)
    if form.rows:
        return images.squeeze(1)
    return images.permute(0, 3, 1, 2) if len(form.shape) == 4 else images.permute(0, 3, 1, 2).squeeze(2)


def images_where_they_lie(x: Tensor, rows: bool) -> Tensor:
    """A value as torch sees it -> [batch, height, width, channels], without moving data.

    rows: whether one of three dimensions is rows of features, else a signal.
    """
    if x.ndim == 2:
        return x[:, None, None]
    if rows and x.ndim == 3:
        return x[:, None]
    return (x if x.ndim == 4 else x.unsqueeze(2)).permute(0, 2, 3, 1)


def as_images(x: Tensor, rows: bool = False) -> Tensor:
    """A value as torch sees it -> NHWC, contiguous; moves data only where it does not lie so."""
    return images_where_they_lie(x, rows).contiguous()


class MemoryPlan:
    """Memory of every value that native code writes."""

    def __init__(
        self, groups: Sequence[Group], forms: Mapping[int, Form], batch: int, last_use: Mapping[int, int]
    ) -> None:
        self.images: dict[int, Tensor] = {}
        """NHWC."""
        self.bits: dict[int, ops.BitImages] = {}
        self.values: Values = {}
        """The same as torch sees them: tensors, and tuples of one bit plane."""
        self.passed_on = torch.empty(
            batch * max((group.passes_on(forms) for group in groups), default=0), dtype=torch.float32
        )
        """What the next step alone reads: one group after another."""
        real = {group.real: index for index, group in enumerate(groups) if group.real is not None}
        integers = {group.integers: index for index, group in enumerate(groups) if group.integers is not None}
        self._memories = [
            self._place_images(groups, forms, batch, last_use, written, dtype)
            for written, dtype in ((real, torch.float32), (integers, torch.int8))
        ]
        self._addresses = {memory.untyped_storage().data_ptr() for memory in self._memories}
        self._place_bits(groups, forms, batch, last_use)

    @property
    def nbytes(self) -> int:
        memories = {b.memory.data_ptr(): b.memory.numel() * b.memory.element_size() for b in self.bits.values()}
        images = (*self._memories, self.passed_on)
        return sum(map(ops.bytes_of, images)) + sum(memories.values())

    def holds(self, x: Tensor) -> bool:
        """Whether x lies in this memory."""
        return x.untyped_storage().data_ptr() in self._addresses and x.numel() > 0

    def _place_images(
        self,
        groups: Sequence[Group],
        forms: Mapping[int, Form],
        batch: int,
        last_use: Mapping[int, int],
        written: Mapping[int, int],
        dtype: torch.dtype,
    ) -> Tensor:
        """The memory of written values of one type, each with the number of its group."""
        home = _homes(groups, forms, last_use, written)
        until: dict[int, int] = {}
        for value in written:
            until[home[value]] = max(until.get(home[value], 0), last_use[value])
        owners = [value for value in written if home[value] == value]
        sizes = (math.prod((batch, *image_size(forms[value]))) for value in owners)
        lives = [Life(size, written[value], until[value]) for value, size in zip(owners, sizes, strict=True)]
        places = placed(lives, CACHE_LINE // dtype.itemsize)
        offsets = dict(zip(owners, places.offsets, strict=True))
        memory = torch.empty(places.size, dtype=dtype)
        for value in written:
            size = (batch, *image_size(forms[value]))
            start = offsets[home[value]]
            self.images[value] = memory[start : start + math.prod(size)].view(size)
            self.values[value] = as_torch_sees(self.images[value], forms[value])
        return memory

    def _place_bits(
        self, groups: Sequence[Group], forms: Mapping[int, Form], batch: int, last_use: Mapping[int, int]
    ) -> None:
        borders = _borders(groups)
        buffers, memories = BufferPool(), {}
        for index, group in enumerate(groups):
            value = group.bits
            if value is None:
                continue
            form = (batch, *image_size(forms[value]), borders.get(value, 0), forms[value].planes)
            key = (form, buffers.take(form, index, last_use[value]))
            if key not in memories:
                memories[key] = ops.BitImages.empty(*form)
            self.bits[value] = memories[key]
            planes = [memories[key].view(plane) for plane in range(forms[value].planes)]
            self.values[value] = tuple(_as_torch_packs(plane, forms[value]) for plane in planes)


def _as_torch_packs(plane: Tensor, form: Form) -> Tensor:
    """A plane of bits [batch, height, width, words] as `pack_signs` would give it."""
    if len(form.shape) == 2:
        return plane.flatten(0, 2)
    return plane.squeeze(1) if form.rows else plane


def last_uses(groups: Sequence[Group], result: int) -> dict[int, int]:
    """Index of the last group that reads each value, or that reads a view of it."""
    last = {result: len(groups)}
    for index in reversed(range(len(groups))):
        group = groups[index]
        until = max(index, last.get(group.output, index)) if group.view else index
        for value in group.reads:
            last[value] = max(last.get(value, until), until)
    for index, group in enumerate(groups):
        for written in (*group.writes, group.output):
            last.setdefault(written, index)
    return last


def _homes(
    groups: Sequence[Group], forms: Mapping[int, Form], last_use: Mapping[int, int], written: Mapping[int, int]
) -> dict[int, int]:
    """For each written value, the one in whose memory it lies: a residual that nothing reads any more, or itself."""
    home: dict[int, int] = {}
    for value, index in written.items():
        home[value] = value
        source = groups[index].in_place
        if source is None or source not in written or last_use[source] != index:
            continue
        if forms[source].shape == forms[value].shape:
            home[value] = home[source]
    return home


def _borders(groups: Sequence[Group]) -> dict[int, int]:
    """Pixels around each image of bits."""
    borders: dict[int, int] = {}
    refused = set()
    for group in groups:
        for value, border in group.borders.items():
            borders[value] = max(borders.get(value, 0), border or 0)
            if border is None:
                refused.add(value)
    return {value: 0 if value in refused else border for value, border in borders.items()}
