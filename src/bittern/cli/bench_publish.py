# SPDX-License-Identifier: Apache-2.0
"""`bittern bench publish`: a network of a store as a file with its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bittern.cli import names
from bittern.cli.errors import Misused


def publish(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Trials of `bittern bench run`.")],
    name: Annotated[str, typer.Argument(help="Of the network: small letters, digits, and - between words.")],
    task: Annotated[str, typer.Option(help="Task of the trials.")],
    network: Annotated[str, typer.Option(help="Network of the trials.")],
    method: Annotated[str, typer.Option(help="Method of the trials.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.bittern and its card, NAME.json.")],
    recipe: Annotated[str, typer.Option(help="common or paper.")] = "common",
    epochs: Annotated[int | None, typer.Option(help="Of the trainings, where there are several.", min=1)] = None,
    train_size: Annotated[int | None, typer.Option(help="Of the trainings, where there are several.", min=1)] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with the data sets, as for the trials.")] = None,
) -> None:
    """Write a trained network of a store with all that its use takes, and its card; of the seeds the median one."""
    from bittern.bench.cards import Subject
    from bittern.bench.cards import publish as write
    from bittern.bench.cards.words import of_file, over_seeds
    from bittern.bench.core.words import size
    from bittern.bench.trials.store import TrialStore

    found = names.method(method, ())
    if found is None:
        raise Misused("--method must be a method; the float twin is not packed")
    subject = Subject(task, network, names.method_name(method), recipe, epochs, train_size)
    with TrialStore.read(store) as trials:
        card = write(trials.done(), subject, found, name, out, data=data)
    scores = f"{of_file(card)} % (seeds: {over_seeds(card)})"
    typer.echo(f"{name}: {card.metric} {scores}, {size(card.bytes)}, seed {card.seed}; in {out}")
