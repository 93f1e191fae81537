# SPDX-License-Identifier: Apache-2.0
"""`bittern info --plan`: a packed program as it runs, a line for each item, with its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bittern.cli.screen import plain_table, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from bittern.deploy import Packed
    from bittern.deploy.engine.engine import Engine

REPEATS = 15
STYLES = {"block": "bold", "own call": "yellow", "torch": "dim"}


def plan(packed: Packed, *, timed: bool) -> tuple[Table, str]:
    """(table of the items, one line of sums). timed: run it, on random numbers, one sample."""
    import torch

    from bittern.deploy.export_arguments import samples_for

    engine = packed.engine
    times = None
    if timed:
        with torch.no_grad():
            inputs = (torch.randn_like(x) if x.is_floating_point() else x for x in samples_for(packed.program, 1))
            profile = engine.profile(*inputs, repeats=REPEATS)
        times = [time_us for _, time_us in profile]
    kinds = [group.how for group in engine.groups]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    words = f"{len(kinds)} items: {counts}"
    if times is not None:
        words += f"; {sum(times):,.0f} us with {torch.get_num_threads()} thread(s)"
    return _table(engine, times), words


def _table(engine: Engine, times: Sequence[float] | None) -> Table:
    from rich.text import Text

    from bittern.deploy.engine.describe import shape_words

    numbers = ("us", "GMAC/s") if times is not None else ()
    table = plain_table("runs as", "layer", "shape", "does", *numbers, right=numbers, whole=("runs as", *numbers))
    for index, group in enumerate(engine.groups):
        cells = [group.how, group.name, shape_words(engine.forms, group), group.does()]
        if times is not None:
            cells += [f"{times[index]:,.0f}", _rate(engine, index, times)]
        table.add_row(*(Text(printable(cell)) for cell in cells), style=STYLES.get(group.how))
    return table


def _rate(engine: Engine, index: int, times: Sequence[float]) -> str:
    """1e9 products of signs per second."""
    from bittern.deploy.engine.describe import product_macs

    node = engine.groups[index].product
    return "" if node is None else f"{product_macs(engine.forms, node) / times[index] / 1e3:,.0f}"
