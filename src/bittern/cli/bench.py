"""`bittern bench`: the measurements of `bittern.bench`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bittern.cli import names
from bittern.cli.errors import Interrupted

app = typer.Typer(help="Measure: kernels against torch, and every method on one recipe.")


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def ops(
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    budget: Annotated[float, typer.Option(help="Seconds for each row.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time the kernels and the packed ResNet-20 against torch."""
    from bittern.bench import ops as bench
    from bittern.cli.screen import screen

    with screen(stderr=True).status("measuring") as status:
        result = bench.run(threads, budget_s=budget, on_row=lambda subject: status.update(f"measuring {subject}"))
    typer.echo(result.to_json() if as_json else str(result))


@app.command()
def methods(
    data: Annotated[str, typer.Option(help=names.DATA_HELP)],
    out: Annotated[Path, typer.Option(help="Folder for the table and the results.")],
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    train_size: Annotated[int | None, typer.Option(help="Training images, drawn once.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="A seed; may be given again. [default: 0]")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="A method, or float; may be given again. [default: all]")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    augment: Annotated[bool, typer.Option("--augment", help="Shift and mirror training images.")] = False,
    name: Annotated[str, typer.Option(help="Beginning of the files' names.")] = "methods",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train every method with one recipe and write a table; started again, it goes on where it stopped."""
    from bittern.bench import methods as bench

    chosen = bench.ALL
    if method:
        chosen = tuple(None if text.lower() == names.FLOAT else names.method_class(text) for text in method)
    images = names.data_set(names.data_spec(data))
    try:
        report = bench.run(
            images,
            out=out,
            command=shlex.join(["bittern", *sys.argv[1:]]),
            epochs=bench.EPOCHS if epochs is None else epochs,
            train_size=min(bench.TRAIN_SIZE, len(images.train_labels)) if train_size is None else train_size,
            seeds=tuple(seed or (0,)),
            threads=threads,
            device=names.device(device),
            augment=augment,
            methods=chosen,
            name=name,
        )
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped; finished trainings are in {out}; the same command goes on") from error
    typer.echo(report.markdown())
