# SPDX-License-Identifier: Apache-2.0
"""`bittern bench decode`: tokens a second of a language model with few bits."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from bittern.cli import lists
from bittern.cli.errors import unknown


def decode(
    threads: Annotated[list[int] | None, typer.Option(help="CPU threads; may be given again. [default: 1]")] = None,
    formats: Annotated[
        str | None,
        typer.Option(help="Of weights, with commas, as in nf4,groups4-int8; or all. [default: four of them]"),
    ] = None,
    type_: Annotated[str, typer.Option("--type", help="Of numbers between frozen layers: float32, bfloat16.")] = (
        "float32"
    ),
    prompt: Annotated[int, typer.Option(help="Tokens of a prompt, and of the cache when one more is decoded.")] = 128,
    peers: Annotated[bool, typer.Option(help="Time torch's bfloat16, and bitsandbytes where it is installed.")] = True,
    budget: Annotated[float, typer.Option(help="Seconds for each row.")] = 4.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time a Llama-shaped model of 187 million weights: a prompt, and one token at a time."""
    import torch

    from bittern.bench.decode import run as bench
    from bittern.cli.screen import screen

    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    known = {name: name for name in bench.FORMATS}
    if type_ not in types:
        raise unknown("type", type_, types)
    with screen(stderr=True).status("measuring") as status:
        result = bench.run(
            tuple(threads or (1,)),
            command=shlex.join(["bittern", *sys.argv[1:]]),
            formats=lists.several("format", ",".join(bench.DEFAULT) if formats is None else formats, known),
            dtype=types[type_],
            with_peers=peers,
            prompt=prompt,
            budget_s=budget,
            on_row=lambda subject: status.update(f"measuring {subject}"),
        )
    typer.echo(result.to_json() if as_json else str(result))
