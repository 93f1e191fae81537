# SPDX-License-Identifier: Apache-2.0
"""How codes of 2, 3, 4 and 8 bits lie in memory: tiles of 16 rows x 32 columns, with lanes for rows.

A code c of b bits is a number 0 ... 2^b - 1. A tile is b x 16 words of 32 bits: b words for each of its rows, the same
word of all rows side by side, so that a vector of words holds the same columns of neighbouring rows. The words of a
row are planes: 2, 4 and 8 bits are one plane, 3 bits are one of 2 (the lower bits) and one of 1. In a plane of p bits a
word holds 32 / p codes, and byte j of word w has, in its bits from p s on, the code of column w * 32 / p + 4 s + j. So
one shift and one mask give four neighbouring columns in the four bytes of a word, whatever b is. The first byte is the
lowest of the word. Rows and columns that fill up the last tiles have code 0; the scales and zero points of such rows
are 0.

What belongs to a group of columns (scale, zero point) is [tiles of rows, groups, 16], for the same reason.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS, COLUMNS = 16, 32
"""Of a tile."""
PLANES = {2: (2,), 3: (2, 1), 4: (4,), 8: (8,)}
"""Bits of a code -> bits of its planes, the lowest first."""
GROUPS = (32, 64, 128)
"""Columns that may share a scale; 0 stands for the whole row."""


def tiles_of(rows: int, columns: int) -> tuple[int, int]:
    return -(-rows // ROWS), -(-columns // COLUMNS)


def groups_of(columns: int, group: int) -> int:
    """How many groups a row has; one, of nothing, where it has no columns."""
    return max(1, -(-columns // group)) if group else 1


def pack_codes(codes: Tensor, bits: int) -> Tensor:
    """uint8 [rows, columns], below 2^bits -> int32 [tiles of rows, tiles of columns, bits, 16]."""
    rows, columns = codes.shape
    high, wide = tiles_of(rows, columns)
    padded = F.pad(codes, (0, wide * COLUMNS - columns, 0, high * ROWS - rows)).contiguous()
    tiles = padded.view(high, ROWS, wide, COLUMNS).permute(0, 2, 1, 3)
    words, low = [], 0
    for plane in PLANES[bits]:
        part = (tiles >> low & (1 << plane) - 1).reshape(high, wide, ROWS, plane, 8 // plane, 4)
        slots = [part[..., slot, :] << plane * slot for slot in range(8 // plane)]
        words.append(torch.stack(slots).sum(0, dtype=torch.uint8).contiguous().view(torch.int32).squeeze(-1))
        low += plane
    return torch.cat(words, -1).permute(0, 1, 3, 2).contiguous()


def unpack_codes(packed: Tensor, rows: int, columns: int) -> Tensor:
    """The uint8 [rows, columns] that `pack_codes` packed."""
    high, wide, bits, _ = packed.shape
    words = packed.permute(0, 1, 3, 2).contiguous()
    codes, low = torch.zeros(high, wide, ROWS, COLUMNS, dtype=torch.uint8, device=packed.device), 0
    for plane in PLANES[bits]:
        part = words[..., low : low + plane].contiguous().view(torch.uint8).view(high, wide, ROWS, plane, 4)
        slots = [part >> plane * slot & (1 << plane) - 1 for slot in range(8 // plane)]
        codes |= torch.stack(slots, -2).reshape(high, wide, ROWS, COLUMNS) << low
        low += plane
    return codes.permute(0, 2, 1, 3).reshape(high * ROWS, wide * COLUMNS)[:rows, :columns].contiguous()


def pack_rows(values: Tensor) -> Tensor:
    """[rows, groups] -> [tiles of rows, groups, 16], with zeros behind the last row."""
    rows, groups = values.shape
    high, _ = tiles_of(rows, 0)
    padded = F.pad(values, (0, 0, 0, high * ROWS - rows)).contiguous()
    return padded.view(high, ROWS, groups).permute(0, 2, 1).contiguous()


def unpack_rows(packed: Tensor, rows: int) -> Tensor:
    """The [rows, groups] that `pack_rows` packed."""
    high, groups, _ = packed.shape
    return packed.permute(0, 2, 1).reshape(high * ROWS, groups)[:rows].contiguous()
