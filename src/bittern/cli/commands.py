# SPDX-License-Identifier: Apache-2.0
"""All commands of `bittern`, in one Typer application."""

from __future__ import annotations

from typing import Annotated

import typer

from bittern.cli import advise, bench, ddnn, demo, export, info, methods, packing, pretrained, quantize, run, training

app = typer.Typer(
    name="bittern",
    help="Train neural networks whose weights and activations have one bit, pack them, and run them bit-packed.",
    epilog="Start with: bittern demo",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.command()(demo.demo)
app.command()(training.train)
app.command(name="eval")(training.evaluate)
app.command()(packing.pack)
app.command()(quantize.quantize)
app.command()(run.run)
app.command()(export.export)
app.command()(info.info)
app.command()(methods.methods)
app.command()(pretrained.pretrained)
app.command()(advise.advise)
app.add_typer(bench.app, name="bench")
app.add_typer(ddnn.app, name="ddnn")


def _version(wanted: bool) -> None:
    if wanted:
        from bittern._version import __version__

        typer.echo(f"bittern {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; works anywhere.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
