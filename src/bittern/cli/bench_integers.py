# SPDX-License-Identifier: Apache-2.0
"""`bittern bench integers`: quantized networks against their float ones and other engines."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer


def integers(
    threads: Annotated[
        list[int] | None, typer.Option(help="CPU threads; may be given again. [default: 1 and 2]")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="A network by its name; may be given again. [default: all]")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of data sets and trained networks; without it, some are left out.")
    ] = None,
    budget: Annotated[float, typer.Option(help="Seconds for each comparison.")] = 2.0,
    limit: Annotated[
        float, typer.Option(help="Seconds that an engine may take to be built, before its row says so.")
    ] = 900.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Quantize float networks to 8 bits: accuracy, bytes, and milliseconds beside other engines in int8 and float."""
    from bittern.bench.integers import run as bench
    from bittern.bench.integers.networks import Subject, subjects
    from bittern.cli.errors import unknown
    from bittern.cli.screen import screen

    known: dict[str, Subject] = {one.name: one for one in subjects()}
    for name in network or ():
        if name.lower() not in known:
            raise unknown("network", name, known)
    with screen(stderr=True).status("measuring") as status:
        result = bench.run(
            tuple(threads or (1, 2)),
            command=shlex.join(["bittern", *sys.argv[1:]]),
            data=data,
            budget_s=budget,
            limit_s=limit,
            chosen=[known[name.lower()] for name in network or known],
            on_row=lambda subject: status.update(f"measuring {subject}"),
        )
    typer.echo(result.to_json() if as_json else str(result))
