# SPDX-License-Identifier: Apache-2.0
"""`bittern bench report`: the page of a store of trials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    store: Annotated[Path, typer.Argument(help="Trials of `bittern bench run`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("bench.html"),
) -> None:
    """Write the trials of a store as one HTML page that loads nothing."""
    from bittern.bench.core.words import size
    from bittern.bench.page import report as page
    from bittern.bench.tracks.all import ALL
    from bittern.bench.trials.store import TrialStore

    with TrialStore.read(store) as trials:
        page.write(out, trials.done(), trials.failed(), [track() for track in ALL])
    typer.echo(f"page: {out} ({size(out.stat().st_size)})")
