# SPDX-License-Identifier: Apache-2.0
"""Real tables, which page.js makes sortable: captions, headers with scopes, numbers beside their texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Column:
    """Of a table. number: sorted as numbers, largest first, and set right. note: what the tooltip of its title says."""

    title: str
    number: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """html: what is shown, escaped already. key: what it is sorted by, where that is not the text; None: comes last."""

    html: str
    key: float | str | None = None


MISSING = Cell('<span class="none" aria-label="not measured">–</span>')


def words(text: object) -> Cell:
    """Escaped text, sorted as it reads."""
    return Cell(escape(str(text)), str(text))


def trial_links(numbers: Iterable[int]) -> Cell:
    """To the rows of the table of trials; numbers that follow each other are one link, to the first of them."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = (f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
    links = (f'<a href="#t{run[0]}">{text}</a>' for run, text in zip(runs, texts, strict=True))
    return Cell(f'<span class="links">{", ".join(links)}</span>')


def table(key: str, caption: str, columns: Sequence[Column], rows: Iterable[tuple[str, Sequence[Cell]]]) -> str:
    """rows: (method, cells), the first cell being the row's header; the method is what the page's filter hides.

    key: the id of the table, unique in the page. caption: text.
    """
    heads = "".join(_head(column) for column in columns)
    body = "\n".join(_row(columns, method, cells) for method, cells in rows)
    return (
        f'<div class="table" role="region" aria-labelledby="{key}-caption" tabindex="0">\n'
        f'<table id="{key}" class="sortable">\n<caption id="{key}-caption">{escape(caption)}</caption>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def _head(column: Column) -> str:
    kind = ' class="number"' if column.number else ""
    note = f' title="{escape(column.note)}"' if column.note else ""
    return f'<th scope="col"{kind}{note}>{escape(column.title)}</th>'


def _row(columns: Sequence[Column], method: str, cells: Sequence[Cell]) -> str:
    hidden_by = f' data-method="{escape(method)}"' if method else ""
    shown = []
    for place, (column, cell) in enumerate(zip(columns, cells, strict=True)):
        key = "" if cell.key is None else f' data-key="{escape(_key(cell.key))}"'
        if isinstance(cell.key, str) and escape(cell.key) == cell.html:
            key = ""  # the text itself is what it is sorted by
        kind = ' class="number"' if column.number else ""
        shown.append(
            f'<th scope="row"{kind}{key}>{cell.html}</th>' if place == 0 else f"<td{kind}{key}>{cell.html}</td>"
        )
    return f"<tr{hidden_by}>{''.join(shown)}</tr>"


def _key(key: float | str) -> str:
    if isinstance(key, str):
        return key
    return f"{key:.9g}" if math.isfinite(key) else ""
