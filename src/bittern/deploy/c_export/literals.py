# SPDX-License-Identifier: Apache-2.0
"""Numbers, names and comments as C99 text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np

LINE = 116
"""Characters of a line of numbers."""

_FOREIGN = re.compile(r"[^A-Za-z0-9 _.,:;()\[\]#+=<>-]")


def is_identifier(name: str) -> bool:
    """Whether `name` can begin the names of a C file: ASCII letters, digits and _, starting with a letter.

    Keywords can: what the file declares is <name>_run. A leading _ belongs to the C library.
    """
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) is not None


def comment(text: str) -> str:
    """Text that cannot end a comment: names come from files, and a file may be anybody's."""
    return _FOREIGN.sub("_", text)


def real(value: float) -> str:
    """A float32 literal that reads back to the same bits (9 significant digits)."""
    with np.errstate(over="ignore"):  # an attribute beyond float32 is infinite there, as it is in torch
        single = float(np.float32(value))
    if math.isinf(single):
        return "-HUGE_VALF" if single < 0 else "HUGE_VALF"
    text = f"{single:.9g}"
    return f"{text}f" if any(mark in text for mark in ".e") else f"{text}.0f"


def word(value: int) -> str:
    """A uint32_t literal."""
    return f"0x{value:08x}u"


def rows(numbers: Iterable[str]) -> str:
    """Numbers separated by commas, in indented lines."""
    lines, line = [], ""
    for number in numbers:
        if len(line) + len(number) + 2 > LINE:
            lines.append(line)
            line = ""
        line += f" {number}," if line else f"{number},"
    return "\n".join(f"    {text}" for text in [*lines, line])
