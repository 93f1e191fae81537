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

    from bittern.deploy.engine.describe import how

    engine = packed.engine
    times = None
    if timed:
        with torch.no_grad():
            profile = engine.profile(torch.randn(1, *packed.input_shape), REPEATS)
        times = [time_us for _, time_us in profile]
    kinds = [how(item) for item in engine.items]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    words = f"{len(kinds)} items: {counts}"
    if times is not None:
        words += f"; {sum(times):,.0f} us with {torch.get_num_threads()} thread(s)"
    return _table(engine, times), words


def _table(engine: Engine, times: Sequence[float] | None) -> Table:
    from rich.text import Text

    from bittern.deploy.engine.describe import does, how, layer_name, shape_words

    numbers = ("us", "GMAC/s") if times is not None else ()
    table = plain_table("runs as", "layer", "shape", "does", *numbers, right=numbers, whole=("runs as", *numbers))
    for index, item in enumerate(engine.items):
        cells = [how(item), layer_name(item), shape_words(engine, item), does(engine, item)]
        if times is not None:
            cells += [f"{times[index]:,.0f}", _rate(engine, index, times)]
        table.add_row(*(Text(printable(cell)) for cell in cells), style=STYLES.get(how(item)))
    return table


def _rate(engine: Engine, index: int, times: Sequence[float]) -> str:
    """1e9 products of signs per second."""
    from bittern.deploy.engine.describe import product_macs, product_of

    node = product_of(engine.items[index])
    return "" if node is None else f"{product_macs(engine.forms, node) / times[index] / 1e3:,.0f}"
