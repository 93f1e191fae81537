# SPDX-License-Identifier: Apache-2.0
"""TensorBoard's event files, written without TensorBoard: numbers over steps, nothing else.

A file is a row of records, each `length (uint64) · crc(length) · data · crc(data)`, little-endian; crc is CRC-32C,
rotated right by 15 bits and raised by 0xA282EAD8. The data are protocol buffers, of which four messages are needed:

    Event       1: wall_time (double)  2: step (varint)  3: file_version (text)  5: Summary  7: SessionLog
    Summary     1: Value, repeated     Value: 1: tag (text)  2: simple_value (float)
    SessionLog  1: status (varint), 1 = START: readers then drop what earlier files hold from this step on

Source: tensorflow/core/util/event.proto, tensorflow/core/lib/io/record_writer.h.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

VERSION = b"brain.Event:2"
NAME = re.compile(r"events\.out\.tfevents\.(\d+)\.")
START = 1
CRC_POLYNOMIAL = 0x82F63B78
"""CRC-32C (Castagnoli), its bits reversed."""
CRC_MASK = 0xA282EAD8
UINT32 = 0xFFFFFFFF


class EventFile:
    """One new event file in `folder`, which is made. `first_step`: the step that will be written first.

    Where `first_step` is above 1, the file says so, and readers drop what earlier files hold of that step and later
    ones: steps that a killed run did after its last checkpoint. All tags must therefore count in steps.

    Raises: OSError.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        earlier = [int(found[1]) for path in folder.iterdir() if (found := NAME.match(path.name))]
        # readers take the files in the order of their names
        number = max([int(time.time()), *(n + 1 for n in earlier)])
        self._file = (folder / f"events.out.tfevents.{number}.{socket.gethostname()}.{os.getpid()}.0").open("xb")
        self._write(0, _field(3, VERSION))
        if first_step > 1:
            self._write(first_step, _field(7, _number(1, START)))
        self._file.flush()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write tag -> value at `step`. Raises: OSError."""
        entries = (_field(1, tag.encode()) + b"\x15" + struct.pack("<f", value) for tag, value in values.items())
        self._write(step, _field(5, b"".join(_field(1, entry) for entry in entries)))

    def flush(self) -> None:
        """Hand over to the system what was written. Raises: OSError."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, step: int, what: bytes) -> None:
        data = b"\x09" + struct.pack("<d", time.time()) + _number(2, step) + what
        length = struct.pack("<Q", len(data))
        self._file.write(length + _checksum(length) + data + _checksum(data))


def _field(number: int, content: bytes) -> bytes:
    """A field that holds bytes, text or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _crc_table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (CRC_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


CRC_TABLE = _crc_table()


def _checksum(data: bytes) -> bytes:
    crc = UINT32
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= UINT32
    return struct.pack("<I", ((crc >> 15 | crc << 17) + CRC_MASK) & UINT32)
