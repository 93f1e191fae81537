# SPDX-License-Identifier: Apache-2.0
"""Options that take several values with commas: what each name or number stands for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

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


def pairs(
    text: str, listed: str, known: Collection[str], example: str, as_text: Collection[str] = ()
) -> dict[str, Any]:
    """Of "name=value,...", the part `listed` of what was typed, each value as Python writes it but for those `as_text`.

    Raises: Misused.
    """
    found = {}
    for part in listed.split(","):
        key, equals, value = part.partition("=")
        if not equals or key not in known:
            raise Misused(f"{text}: {part!r} is none of its options; write NAME=VALUE, {example}")
        found[key] = value if key in as_text else literal(value)
    return found


def literal(text: str) -> Any:
    """A number, a truth value or None as Python writes it, else the text itself."""
    import ast

    try:
        return ast.literal_eval(text.title() if text in ("true", "false", "none") else text)
    except (ValueError, SyntaxError):
        return text
