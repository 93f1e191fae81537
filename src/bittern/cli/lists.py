# SPDX-License-Identifier: Apache-2.0
"""Options that take several values with commas: what each name or number stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from bittern.cli.errors import Misused, unknown

T = TypeVar("T")
ALL = "all"


def several(kind: str, text: str, known: Mapping[str, T]) -> tuple[T, ...]:
    """What the names in "a,b" stand for, each once, in the order of `known`; all of them for "all". Raises: Misused."""
    if text == ALL:
        return tuple(known.values())
    found = [name.strip() for name in text.split(",")]
    for name in found:
        if name not in known:
            raise unknown(kind, name, known)
    return tuple(value for name, value in known.items() if name in found)


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Of "1,32", each once. Raises: Misused."""
    found = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in found):
        raise Misused(f"{option} must be whole numbers of at least 1 with commas, as in 1,32; got {text!r}")
    return tuple(dict.fromkeys(int(part) for part in found))
