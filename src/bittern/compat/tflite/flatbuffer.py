# SPDX-License-Identifier: Apache-2.0
"""Reading flatbuffers that may be damaged or hostile: every offset is compared with the bytes that are there.

A table begins with the distance back to its vtable, which says where in the table each field lies, 0 for one that is
left out. Tables, texts and vectors are reached by 32-bit distances forward; a vector begins with its length.
Source: the flatbuffers project, "FlatBuffer Internals".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


class DamagedError(ValueError):
    """What is no flatbuffer of the schema that the reader expects."""


@dataclass(frozen=True)
class Table:
    """A table at a place in the bytes of a file; fields go by their number in the schema."""

    data: bytes
    place: int

    @classmethod
    def root(cls, data: bytes, identifier: bytes) -> Table:
        """The first table of a file with this identifier."""
        if data[4:8] != identifier:
            raise DamagedError(f"its bytes 4 to 8 must be {identifier!r}; got {data[4:8]!r}")
        return cls(data, _number(data, 0, "<I"))

    def number(self, field: int, code: str, default: Any = 0) -> Any:
        """A number of the format `code` of struct."""
        place = self._field(field)
        return default if place is None else _number(self.data, place, "<" + code)

    def text(self, field: int) -> str:
        place = self._field(field)
        if place is None:
            return ""
        start, count = self._vector(place, 1)
        return self.data[start : start + count].decode("utf-8", errors="replace")

    def numbers(self, field: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A vector of numbers, empty where it is left out: a view of the file."""
        kind, place = np.dtype(dtype), self._field(field)
        if place is None:
            return np.empty(0, kind)
        start, count = self._vector(place, kind.itemsize)
        return np.frombuffer(self.data, kind, count, start)

    def table(self, field: int) -> Table | None:
        place = self._field(field)
        return None if place is None else self._at(place)

    def tables(self, field: int) -> list[Table]:
        """A vector of tables, empty where it is left out."""
        place = self._field(field)
        if place is None:
            return []
        start, count = self._vector(place, 4)
        return [self._at(start + 4 * index) for index in range(count)]

    def _at(self, place: int) -> Table:
        return Table(self.data, place + _number(self.data, place, "<I"))

    def _field(self, field: int) -> int | None:
        """Where a field lies in the file; None: it is left out."""
        vtable = self.place - _number(self.data, self.place, "<i")
        size = _number(self.data, vtable, "<H")
        entry = 4 + 2 * field
        if entry + 2 > size:
            return None
        offset = _number(self.data, vtable + entry, "<H")
        return self.place + offset if offset else None

    def _vector(self, place: int, item: int) -> tuple[int, int]:
        """(where the first item lies, how many there are) of the vector to which a place points."""
        start = place + _number(self.data, place, "<I")
        count = _number(self.data, start, "<I")
        if start + 4 + count * item > len(self.data):
            raise DamagedError(f"a vector at byte {start} claims {count} items of {item} bytes; the file ends before")
        return start + 4, count


def _number(data: bytes, place: int, code: str) -> Any:
    if not 0 <= place <= len(data) - struct.calcsize(code):
        raise DamagedError(f"it points to byte {place}; the file has {len(data)}")
    return struct.unpack_from(code, data, place)[0]
