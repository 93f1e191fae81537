# SPDX-License-Identifier: Apache-2.0
"""Rich consoles and tables, set up once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LONGEST = 400
"""Characters of a text from a file that are shown."""
PIPE_WIDTH = 160
"""Columns where there is no terminal, so that tables in pipes and logs are not cut."""


def screen(*, stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=PIPE_WIDTH)


def say(text: str) -> None:
    """Print sentences: broken between words where there is a terminal, in one line elsewhere, for what reads it."""
    import typer

    console = screen()
    if console.is_terminal:
        console.print(text, markup=False)
    else:
        typer.echo(text)


def plain_table(*columns: str, right: Sequence[str] = (), whole: Sequence[str] = ()) -> Table:
    """A table without a frame; the columns in `right` are numbers, those in `whole` are never wrapped or cut."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=name in whole, overflow="fold")
    return table


def printable(text: str) -> str:
    """Without what could move a terminal's cursor, and not without end: a packed file may come from anywhere."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."
