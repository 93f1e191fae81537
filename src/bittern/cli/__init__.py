"""The command line `bittern`, and the only place where strings become objects.

Every module here imports what is heavy inside its commands, so that `--help` and shell completion stay quick. Errors
are one line on stderr: status 2 for a command line that cannot be understood, 1 for one that cannot be done, 130 for
Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from bittern.cli import bench, demo, export, info, methods, packing, run, training
from bittern.cli.errors import Interrupted, report

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
app.command()(run.run)
app.command()(export.export)
app.command()(info.info)
app.command()(methods.methods)
app.add_typer(bench.app, name="bench")


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (None: that of this process). Returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # taken out here, so that it works before and after the command
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        status = app(args=words, prog_name="bittern", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort) as error:
        return report(Interrupted("interrupted"), debug, error)
    except Exception as error:
        return report(error, debug, error)
    if status == 130:  # how newer versions of Typer answer Ctrl-C
        return report(Interrupted("interrupted"), False, None)
    return status if isinstance(status, int) else 0
