# SPDX-License-Identifier: Apache-2.0
"""Plain text tables, for reports that a terminal, a log and a notebook all show."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Align columns; those whose indices are in `right` are numbers and end flush. A row () draws a rule."""
    cells = [header, *(row for row in rows if row)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([line(header), rule, *(line(row) if row else rule for row in rows)])
