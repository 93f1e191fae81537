# SPDX-License-Identifier: Apache-2.0
"""Reading JSON that may come from anywhere: every field is there, and of the kind that it must be."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn


def read_object(text: str | bytes, subject: str) -> Mapping[str, Any]:
    """An object of JSON, numbers finite. Raises: ValueError."""
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{subject} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{subject} must be an object of JSON; got {type(found).__name__}")
    return found


def only(found: Mapping[str, Any], names: Sequence[str], subject: str) -> None:
    """Raises: ValueError unless `found` has these fields and no others."""
    missing, foreign = [n for n in names if n not in found], [n for n in found if n not in names]
    if missing or foreign:
        what = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(foreign[:3])}, which nothing reads"
        raise ValueError(f"{subject} {what}; it must have {', '.join(names)}")


def number(value: Any, subject: str, least: float = -math.inf) -> float:
    """Raises: ValueError for what is no number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < math.inf:
        raise ValueError(f"{subject} must be a number{_at_least(least)}; got {_short(value)}")
    return float(value)


def whole(value: Any, subject: str, least: int = 0) -> int:
    """Raises: ValueError for what is no whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{subject} must be a whole number{_at_least(least)}; got {_short(value)}")
    return value


def text(value: Any, subject: str) -> str:
    """Raises: ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{subject} must be a text; got {_short(value)}")
    return value


def numbers(value: Any, subject: str) -> tuple[float, ...]:
    """At least one. Raises: ValueError."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"{subject} must be a list of numbers; got {_short(value)}")
    return tuple(number(item, subject) for item in value)


def spreads(value: Any, subject: str) -> tuple[float, ...]:
    """Numbers above 0. Raises: ValueError."""
    found = numbers(value, subject)
    if min(found) <= 0:
        raise ValueError(f"{subject} must be above 0; got {_short(value)}")
    return found


def _at_least(least: float) -> str:
    return "" if least == -math.inf else f" of at least {least:g}"


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) < 60 else f"{shown[:57]}..."


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
