# SPDX-License-Identifier: Apache-2.0
"""`bittern bench ops` and `speed`: kernels, layers and packed networks against torch and other engines."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bittern._files import write_atomically


def ops(
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    budget: Annotated[float, typer.Option(help="Seconds for each row.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time the kernels and the packed ResNet-20 against torch."""
    from bittern.bench.kernels import run as bench
    from bittern.cli.screen import screen

    with screen(stderr=True).status("measuring") as status:
        result = bench.run(threads, budget_s=budget, on_row=lambda subject: status.update(f"measuring {subject}"))
    typer.echo(result.to_json() if as_json else str(result))


def speed(
    threads: Annotated[
        list[int] | None, typer.Option(help="CPU threads; may be given again. [default: 1 and 2]")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="A network by its name; may be given again. [default: all]")
    ] = None,
    budget: Annotated[float, typer.Option(help="Seconds for each comparison.")] = 2.0,
    limit: Annotated[
        float, typer.Option(help="Seconds that an engine may take to be built, before its row says so.")
    ] = 900.0,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compare with torch.compile too, which takes minutes to build.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="SVG file to draw the latencies to.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time packed networks against torch and other engines, and their layers against the CPU's peak."""
    from bittern.bench.core.drawing import check_matplotlib
    from bittern.bench.speed import run as bench
    from bittern.bench.speed.networks import networks
    from bittern.bench.speed.peers import COMPILED, PEERS
    from bittern.bench.speed.plot import latencies_svg
    from bittern.cli.errors import unknown
    from bittern.cli.screen import screen

    known = {one.name: one for one in networks()}
    for name in network or ():
        if name.lower() not in known:
            raise unknown("network", name, known)
    if plot is not None:
        check_matplotlib("bittern bench speed --plot")
    with screen(stderr=True).status("measuring") as status:
        result = bench.run(
            tuple(threads or (1, 2)),
            command=shlex.join(["bittern", *sys.argv[1:]]),
            budget_s=budget,
            limit_s=limit,
            chosen=[known[name.lower()] for name in network or known],
            peers=(*PEERS, COMPILED) if compiled else PEERS,
            on_row=lambda subject: status.update(f"measuring {subject}"),
        )
    if plot is not None:
        write_atomically(plot, latencies_svg(result))
    typer.echo(result.to_json() if as_json else str(result))
