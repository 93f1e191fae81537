# SPDX-License-Identifier: Apache-2.0
"""Results as JSON files: written all or nothing, checked when read."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from bittern._files import write_atomically


class StoreError(ValueError):
    """A result file that is not what it should be."""


class _IsDataclass(Protocol):
    __dataclass_fields__: typing.ClassVar[dict[str, Any]]


T = TypeVar("T", bound=_IsDataclass)


def to_json(result: _IsDataclass) -> str:
    """A dataclass as JSON text, its fields in their order. Raises: ValueError for NaN and infinity."""
    data = dataclasses.asdict(result)
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(kind: type[T], text: str) -> T:
    """The dataclass `kind` from the text that `to_json` wrote; every field is there and of its declared type.

    Types understood: bool, int, float, str, None, other such dataclasses, tuple[X, ...], and unions of these.

    Raises: StoreError naming the field that is missing, unknown or of another type.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{kind.__name__}: not valid JSON: {error}") from error
    result: T = _read(kind, data, kind.__name__)
    return result


def save(path: Path, result: _IsDataclass) -> None:
    """Write `result` to `path` as JSON, all or nothing. Raises: OSError; ValueError for NaN and infinity."""
    write_atomically(path, to_json(result).encode())


def load(path: Path, kind: type[T], *, upgrade: Callable[[str], str] | None = None) -> T:
    """Read what `save` wrote. upgrade: makes today's text of an older one. Raises: FileNotFoundError, StoreError."""
    try:
        text = path.read_text(encoding="utf-8")
        return from_json(kind, text if upgrade is None else upgrade(text))
    except (StoreError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is not a result file of this version: {error}; move it away") from error


def _read(kind: Any, data: Any, place: str) -> Any:
    """`data`, as JSON gives it, as an object of type `kind`."""
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, data, place)
    origin = typing.get_origin(kind)
    if origin is tuple:
        if not isinstance(data, list):
            raise StoreError(f"{place} must be a list; got {data!r}")
        (item, _) = typing.get_args(kind)
        return tuple(_read(item, value, f"{place}[{i}]") for i, value in enumerate(data))
    if origin in (types.UnionType, typing.Union):
        return _read_union(kind, data, place)
    if kind is float and type(data) is int:
        try:
            return float(data)
        except OverflowError as error:
            raise StoreError(f"{place} must be a float; got an integer beyond its range") from error
    # type, not isinstance: True must not pass for the integer 1
    wanted = type(None) if kind is None else kind
    if type(data) is not wanted:
        raise StoreError(f"{place} must be {wanted.__name__}; got {data!r}")
    return data


def _read_fields(kind: Any, data: Any, place: str) -> Any:
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    if not isinstance(data, Mapping):
        raise StoreError(f"{place} must be an object; got {data!r}")
    for name in (*names, *data):
        if name not in data or name not in names:
            raise StoreError(f"{place}.{name} is {'missing' if name in names else 'unknown'}")
    return kind(**{name: _read(hints[name], data[name], f"{place}.{name}") for name in names})


def _read_union(kind: Any, data: Any, place: str) -> Any:
    for member in typing.get_args(kind):
        try:
            return _read(member, data, place)
        except StoreError:
            continue
    raise StoreError(f"{place} must be {kind}; got {data!r}")
