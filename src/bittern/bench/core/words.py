# SPDX-License-Identifier: Apache-2.0
"""How readers are told names, counts, sizes and times."""

from __future__ import annotations

from html import escape
from itertools import pairwise

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def breakable(name: str) -> str:
    """Escaped, with a place to break before capitals that follow small letters: XNORNet-PlusPlus."""
    marked = name[:1]
    for before, letter in pairwise(name):
        marked += f"\0{letter}" if letter.isupper() and before.islower() else letter
    return escape(marked).replace("\0", "<wbr>")


def number_word(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def size(count: int) -> str:
    """Bytes for a reader, in powers of 1000."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.2f} MB"


def duration(us: float) -> str:
    if us < 1e3:
        return f"{us:.0f} µs"
    return f"{us / 1e3:.2f} ms" if us < 1e4 else f"{us / 1e3:.1f} ms"
