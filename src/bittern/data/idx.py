# SPDX-License-Identifier: Apache-2.0
"""Reader of the idx format of MNIST, plain or gzipped.

Layout: two zero bytes, one byte for the element type (8: unsigned byte), one byte for the number of dimensions n,
n sizes as big-endian uint32, then the elements in row-major order and nothing after them.

A file is not trusted: what its header promises is compared with what its length can hold before anything is
allocated, and no more is decompressed than was promised plus the one byte that shows an overrun.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

UNSIGNED_BYTE = 8
MAX_DIMENSIONS = 4
MAX_ELEMENTS = 2**48
"""Sizes of 0 counted as 1: strides then fit 64 bits."""
MAX_DEFLATE_RATIO = 1032
"""Deflate spends at least 2 bits on a match, which yields at most 258 bytes: 258 * 8 / 2."""
CHUNK_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: str | Path) -> Tensor:
    """Read a file of unsigned bytes: uint8 of the shape in its header. Gzip is told by its content, not its name.

    Raises: FileNotFoundError; ValueError for a file that is not idx, of another element type, truncated, longer
    than its header says, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"read_idx: no file {path}")
    stored_bytes = path.stat().st_size
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
        file.seek(0)
        if not zipped:
            return _read(path, file, stored_bytes)
        try:
            # GzipFile is a BinaryIO in all but name
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _read(path, cast(BinaryIO, unzipped), stored_bytes * MAX_DEFLATE_RATIO)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"read_idx: {path} is a damaged gzip file ({error}); download it again") from error


def _read(path: Path, file: BinaryIO, most_bytes: int) -> Tensor:
    shape = _read_header(path, file)
    count = math.prod(shape)
    header_bytes = 4 + 4 * len(shape)
    if header_bytes + count > most_bytes or math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise ValueError(
            f"read_idx: {path} promises {count} elements {list(shape)}, more than its length can hold; "
            "it is truncated or damaged: download it again"
        )
    body = _read_at_most(file, count + 1)
    if len(body) != count:
        what = "ends early" if len(body) < count else "has bytes after the last element"
        raise ValueError(f"read_idx: {path} {what}; its header says {count} elements {list(shape)}; download it again")
    if count == 0:
        return torch.empty(shape, dtype=torch.uint8)
    return torch.frombuffer(body, dtype=torch.uint8).view(shape)


def _read_header(path: Path, file: BinaryIO) -> tuple[int, ...]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or not 1 <= start[3] <= MAX_DIMENSIONS:
        raise ValueError(
            f"read_idx: {path} is not an idx file: it must begin with 00 00 <type> <1 ... {MAX_DIMENSIONS} "
            f"dimensions>; got {start.hex(' ') or 'nothing'}"
        )
    if start[2] != UNSIGNED_BYTE:
        raise ValueError(f"read_idx: {path} must hold unsigned bytes (type 8); got type {start[2]}")
    sizes = file.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise ValueError(f"read_idx: {path} ends inside its header; download it again")
    return struct.unpack(f">{start[3]}I", sizes)


def _read_at_most(file: BinaryIO, limit: int) -> bytearray:
    """Up to `limit` bytes, in pieces, so that memory grows with what is there and not with what was promised."""
    body = bytearray()
    while len(body) < limit and (chunk := file.read(min(CHUNK_BYTES, limit - len(body)))):
        body += chunk
    return body
