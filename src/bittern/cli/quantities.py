# SPDX-License-Identifier: Apache-2.0
"""Limits with units: 200kB, 2ms, 3M."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from bittern.cli.errors import Misused

BYTES = {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0}
"""With both letters that look like µ. A time needs a unit: seconds and milliseconds are as likely."""
SPANS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
NUMBER = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(\D*)")


def bytes_of(option: str, text: str) -> float:
    """Raises: Misused."""
    return _quantity(option, text, BYTES, "a size above 0, as in 200kB or 1.5MiB")


def seconds_of(option: str, text: str) -> float:
    """Raises: Misused."""
    return _quantity(option, text, SECONDS, "a time above 0 with its unit, as in 2ms or 500us")


def span_of(option: str, text: str) -> float:
    """Seconds of a stretch of work. Raises: Misused."""
    return _quantity(option, text, SPANS, "a time above 0 with its unit, as in 90s, 30m or 2h")


def count_of(option: str, text: str) -> float:
    """Raises: Misused."""
    return _quantity(option, text, COUNTS, "a number above 0, as in 3e6 or 3M")


def _quantity(option: str, text: str, units: Mapping[str, float], what: str) -> float:
    found = NUMBER.fullmatch(text.strip())
    factor = units.get(found[2].lower()) if found else None
    value = float(found[1]) * factor if found and factor else 0.0
    if not (value > 0 and math.isfinite(value)):
        raise Misused(f"{option} must be {what}; got {text!r}")
    return value
