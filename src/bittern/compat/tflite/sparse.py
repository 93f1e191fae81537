# SPDX-License-Identifier: Apache-2.0
"""Sparse tensors of a `.tflite` file: only some of their numbers are stored, the others are 0.

Levels are gone through from the first to the last: a dense one has all its entries, a sparse one (CSR) those that it
lists for each entry of the level before. Levels beyond the dimensions of the tensor are blocks of some of them. Source:
the schema (schema.fbs, SparsityParameters), and TACO's formats (Chou et al., arXiv:1804.10112).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bittern.compat.tflite.flatbuffer import DamagedError, Table

CSR = 1
INDEX_TYPES = {1: "<i4", 2: "<u2", 3: "u1"}
"""Of the numbers in a vector of places, by the number of its table."""
Places = npt.NDArray[np.int64]


def spread_out(
    name: str, shape: Sequence[int], data: npt.NDArray[np.uint8], dtype: np.dtype[Any], sparsity: Table
) -> Tensor:
    """The whole tensor. Raises: DamagedError."""
    order, blocks = (sparsity.numbers(part, "<i4").tolist() for part in (0, 1))
    levels = sparsity.tables(2)
    known = sorted(order) == list(range(len(levels))) and len(levels) == len(shape) + len(blocks)
    if not known or not all(0 <= dim < len(shape) for dim in blocks):
        raise _damaged(name, f"{len(levels)} levels for {len(shape)} dimensions and {len(blocks)} blocks")
    entries = np.zeros(1, np.int64)
    indices: list[Places] = []
    for level in levels:
        entries, indices = _next(name, level, entries, indices, math.prod(shape))
    numbers = data.view(dtype) if data.size % dtype.itemsize == 0 else data[:0].view(dtype)
    if numbers.size != entries.size or (entries.size and int(entries.max()) >= numbers.size):
        raise _damaged(name, f"{numbers.size} numbers for {entries.size} places")
    sizes = [level.number(1, "i") for level in levels]
    if any(sizes[order.index(number)] < 1 for number in range(len(shape), len(levels))):
        raise _damaged(name, "blocks without a size")
    by_dim = {dim: indices[level] for level, dim in enumerate(order)}
    places = [by_dim[dim] for dim in range(len(shape))]
    for number, dim in enumerate(blocks, start=len(shape)):
        places[dim] = places[dim] * sizes[order.index(number)] + by_dim[number]
    if any(index.size and int(index.max()) >= size for index, size in zip(places, shape, strict=True)):
        raise _damaged(name, "places outside of it")
    found = np.zeros(tuple(shape), dtype)
    found[tuple(places)] = numbers[entries]
    return torch.from_numpy(found)


def _next(name: str, level: Table, entries: Places, indices: list[Places], most: int) -> tuple[Places, list[Places]]:
    """The entries of a level, and where each lies along all levels so far."""
    if level.number(0, "b") != CSR:
        size = level.number(1, "i")
        if not 0 < size <= most or entries.size * size > most:
            raise _damaged(name, f"a level of {size} entries")
        own = np.tile(np.arange(size, dtype=np.int64), entries.size)
        return np.repeat(entries * size, size) + own, [*(np.repeat(index, size) for index in indices), own]
    segments, places = (_places(name, level, part) for part in (2, 4))
    fits = entries.size == 0 or int(entries.max()) + 1 < segments.size
    rising = segments.size > 0 and segments[0] >= 0 and bool((np.diff(segments) >= 0).all())
    if not fits or not rising or segments[-1] > places.size or places.size > most:
        raise _damaged(name, "a level whose segments do not fit its places")
    if places.size and int(places.min()) < 0:
        raise _damaged(name, "places before its first")
    counts = segments[entries + 1] - segments[entries]
    starts = np.repeat(segments[entries] - np.cumsum(counts) + counts, counts)
    found = starts + np.arange(int(counts.sum()), dtype=np.int64)
    return found, [*(np.repeat(index, counts) for index in indices), places[found]]


def _places(name: str, level: Table, part: int) -> Places:
    kind, table = level.number(part, "B"), level.table(part + 1)
    if kind not in INDEX_TYPES or table is None:
        raise _damaged(name, f"places of the type {kind}")
    return table.numbers(0, INDEX_TYPES[kind]).astype(np.int64)


def _damaged(name: str, why: str) -> DamagedError:
    return DamagedError(f"sparse tensor {name!r} has {why}")
