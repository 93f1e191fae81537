# SPDX-License-Identifier: Apache-2.0
"""`bittern bench methods`: every method on one data set."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bittern.cli import lists, names
from bittern.cli.errors import Interrupted, Misused

if TYPE_CHECKING:
    from torch import nn

    from bittern.quantizer import Method


def methods(
    data: Annotated[str, typer.Option(help=names.DATA_HELP)],
    out: Annotated[Path, typer.Option(help="Folder for the table and the results.")],
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    train_size: Annotated[int | None, typer.Option(help="Training images, drawn once.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="A seed; may be given again. [default: 0, 1, 2]")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help=f"{names.METHOD_HELP} May be given again; all for every one. {names.COMPARED_HELP}"),
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    augment: Annotated[bool, typer.Option("--augment", help="Shift and mirror training images.")] = False,
    recipe: Annotated[
        str, typer.Option(help="common: one for all; paper: that of each method's paper, scaled to the epochs.")
    ] = "common",
    batch_size: Annotated[
        int | None, typer.Option(help="Most images of a batch, with --recipe paper. [default: those of the papers]")
    ] = None,
    model: Annotated[str, typer.Option(help="The network.")] = "resnet20_cifar",
    name: Annotated[str, typer.Option(help="Beginning of the files' names.")] = "methods",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train methods and write a table; started again, it goes on where it stopped."""
    from bittern import recipes
    from bittern.bench.methods import run as bench

    if recipe not in ("common", "paper"):
        raise Misused(f"--recipe must be common or paper; got {recipe!r}")
    chosen = bench.ALL
    if method:
        chosen = _chosen(method, names.network(model))
    images = names.data_set(names.data_spec(data)).in_memory()
    try:
        report = bench.run(
            images,
            out=out,
            command=shlex.join(["bittern", *sys.argv[1:]]),
            epochs=bench.EPOCHS if epochs is None else epochs,
            train_size=min(bench.TRAIN_SIZE, len(images.train_labels)) if train_size is None else train_size,
            seeds=tuple(seed or (0, 1, 2)),
            threads=threads,
            device=names.device(device),
            augment=augment,
            record_of=recipes.for_method if recipe == "paper" else None,
            batch_size=batch_size,
            methods=chosen,
            network=names.network(model),
            name=name,
        )
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped; finished trainings are in {out}; the same command goes on") from error
    typer.echo(report.page())


def _chosen(wanted: Sequence[str], network: Callable[..., nn.Module]) -> tuple[Method | None, ...]:
    """Of "all" the float twin and every method that serves the network. Raises: Misused."""
    found: list[Method | None] = []
    for text in wanted:
        if text == lists.ALL:
            found += (None, *names.those_that_fit(names.method_classes([lists.ALL]), [network]))
        else:
            found.append(names.method(text, ()))
    return tuple(dict.fromkeys(found))
