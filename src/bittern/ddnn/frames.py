# SPDX-License-Identifier: Apache-2.0
"""What parts of a DDNN send each other: one header, then numbers whose count is known before they are read.

A frame is a header of 12 bytes, all little-endian, and a body:

    bytes 0-1  "BD"     byte 2  version, 1     byte 3  kind     bytes 4-7  request     bytes 8-11  count of examples

    kind                  body
    1  ASK_SCORES         count x uint32: numbers of examples, which the device looks at
    2  SCORES             count x classes float32, finite
    3  ASK_SIGNS          count x uint32: rows of the request of this number, each above the one before
    4  SIGNS              count x signs, each example in whole bytes, the first sign in the lowest bit, 1 for +1; what
                          is left of the last byte is 0
    5  ASK_CLOUD          ceil(parts / 8) bytes, a bit for each part that is there; then the signs of each of these
    6  ANSWERS            as SCORES
    7  REFUSED            a reason, up to 200 bytes of UTF-8; count 0

A reader knows what it waits for and how large that is, and refuses everything else before it takes any memory. Nothing
is ever evaluated: there are no names, types or objects in a frame.
"""

from __future__ import annotations

import enum
import itertools
import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

MAGIC, VERSION = b"BD", 1
HEADER = struct.Struct("<2sBBII")
MOST_EXAMPLES = 4096
"""In one frame."""
MOST_REASON = 200
BITS = 8
INDEX = np.dtype("<u4")
SCORE = np.dtype("<f4")


class Kind(enum.IntEnum):
    ASK_SCORES = 1
    SCORES = 2
    ASK_SIGNS = 3
    SIGNS = 4
    ASK_CLOUD = 5
    ANSWERS = 6
    REFUSED = 7


class FrameError(ValueError):
    """Bytes that are no frame, or not the one that was waited for."""


class Frame(NamedTuple):
    kind: Kind
    request: int
    examples: int
    body: memoryview


def encode(kind: Kind, request: int, count: int, body: bytes) -> bytes:
    return HEADER.pack(MAGIC, VERSION, kind, request, count) + body


def refusal(request: int, reason: str) -> bytes:
    return encode(Kind.REFUSED, request, 0, reason.encode()[:MOST_REASON].decode(errors="ignore").encode())


def decode(data: bytes) -> Frame:
    """The header of a frame; whether its body fits is up to its reader. Raises: FrameError."""
    if len(data) < HEADER.size:
        raise FrameError(f"ddnn: a frame has at least {HEADER.size} bytes; got {len(data)}")
    magic, version, kind, request, count = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise FrameError("ddnn: this is no frame of a DDNN")
    if version != VERSION:
        raise FrameError(
            f"ddnn: a frame of version {version}, and this bittern knows {VERSION}; use the same on both sides"
        )
    if kind not in Kind.__members__.values():
        raise FrameError(f"ddnn: a frame of the unknown kind {kind}")
    if count > MOST_EXAMPLES:
        raise FrameError(f"ddnn: a frame has at most {MOST_EXAMPLES} examples; got {count}")
    return Frame(Kind(kind), request, count, memoryview(data)[HEADER.size :])


def expect(frame: Frame, kind: Kind, size: int) -> memoryview:
    """The body of a frame of this kind and size. Raises: FrameError, with the reason of a refusal."""
    if frame.kind is Kind.REFUSED and kind is not Kind.REFUSED:
        reason = bytes(frame.body[:MOST_REASON]).decode(errors="replace")
        raise FrameError(f"ddnn: the other side refused: {''.join(c if c.isprintable() else '?' for c in reason)}")
    if frame.kind is not kind:
        raise FrameError(f"ddnn: waited for {kind.name}, got {frame.kind.name}")
    if len(frame.body) != size:
        raise FrameError(f"ddnn: {kind.name} of {frame.examples} examples has {size} bytes; got {len(frame.body)}")
    return frame.body


def indices(numbers: Sequence[int]) -> bytes:
    """Raises: ValueError for numbers that are no uint32, or too many of them."""
    wrong = [number for number in numbers if not 0 <= number < 2**32]
    if wrong or len(numbers) > MOST_EXAMPLES:
        raise ValueError(
            f"ddnn: asks for up to {MOST_EXAMPLES} examples by numbers 0 ... 2^32 - 1; got {wrong[:1] or len(numbers)}"
        )
    return np.asarray(numbers, INDEX).tobytes()


def read_indices(frame: Frame, kind: Kind) -> list[int]:
    """Raises: FrameError."""
    body = expect(frame, kind, frame.examples * INDEX.itemsize)
    return [int(number) for number in np.frombuffer(body, INDEX)]


def read_rows(frame: Frame, batch: int) -> Tensor:
    """Rows of a batch, int64, each above the one before. Raises: FrameError."""
    rows = read_indices(frame, Kind.ASK_SIGNS)
    if any(later <= row for row, later in itertools.pairwise(rows)) or (rows and rows[-1] >= batch):
        raise FrameError(f"ddnn: asks for rows that rise within 0 ... {batch - 1}; got others")
    return torch.tensor(rows, dtype=torch.int64)


def scores(values: Tensor) -> bytes:
    return values.detach().cpu().numpy().astype(SCORE).tobytes()


def read_scores(frame: Frame, kind: Kind, count: int, classes: int) -> Tensor:
    """float32 [count, classes]. Raises: FrameError."""
    body = expect(frame, kind, count * classes * SCORE.itemsize)
    if frame.examples != count:
        raise FrameError(f"ddnn: asked for scores of {count} examples; got {frame.examples}")
    values = np.frombuffer(body, SCORE).astype(np.float32).reshape(count, classes)
    if not np.isfinite(values).all():
        raise FrameError("ddnn: scores must be finite; got others")
    return torch.from_numpy(values)


def bytes_of_signs(shape: Sequence[int]) -> int:
    """Bytes of the signs of one example."""
    return -(-math.prod(shape) // BITS)


def signs(values: Tensor) -> bytes:
    """values: {-1, +1} [batch, ...]."""
    flat = values.detach().cpu().flatten(1).numpy() > 0
    return np.packbits(flat, axis=1, bitorder="little").tobytes()


def read_signs(body: memoryview, count: int, shape: Sequence[int]) -> Tensor:
    """{-1, +1} float32 [count, *shape]. Raises: FrameError for a body of another size, or bits beyond the last sign."""
    each, bits = bytes_of_signs(shape), math.prod(shape)
    if len(body) != count * each:
        raise FrameError(f"ddnn: signs of {count} examples have {count * each} bytes; got {len(body)}")
    packed: npt.NDArray[np.uint8] = np.frombuffer(body, np.uint8).reshape(count, each)
    unpacked = np.unpackbits(packed, axis=1, bitorder="little")
    if unpacked[:, bits:].any():
        raise FrameError(f"ddnn: {bits} signs leave the rest of their last byte 0; got bits there")
    return torch.from_numpy(unpacked[:, :bits].astype(np.float32) * 2 - 1).reshape(count, *shape)


def parts(features: Sequence[Tensor | None]) -> bytes:
    """Which parts are there, then their signs."""
    there = np.packbits([part is not None for part in features], bitorder="little").tobytes()
    return there + b"".join(signs(part) for part in features if part is not None)


def read_parts(frame: Frame, count: int, shape: Sequence[int]) -> list[Tensor | None]:
    """The signs of each of `count` parts, None where one is missing. Raises: FrameError."""
    head = -(-count // BITS)
    flags = np.unpackbits(np.frombuffer(frame.body[:head], np.uint8), bitorder="little")
    if len(flags) != head * BITS or flags[count:].any() or not flags.any():
        raise FrameError(f"ddnn: names which of {count} parts are there, at least one; got others")
    size = frame.examples * bytes_of_signs(shape)
    body = expect(frame, Kind.ASK_CLOUD, head + size * int(flags.sum()))[head:]
    found: list[Tensor | None] = []
    for flag in flags[:count]:
        found.append(read_signs(body[:size], frame.examples, shape) if flag else None)
        body = body[size:] if flag else body
    return found
