# SPDX-License-Identifier: Apache-2.0
"""`bittern bench sequences`: recurrent language models of few bits."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bittern.cli.errors import unknown


def sequences(
    text: Annotated[
        Path,
        typer.Argument(help="A text file, whose last tenth is the test, or a folder of Penn Treebank or WikiText-2."),
    ],
    test: Annotated[Path | None, typer.Option(help="A file to test on, in the place of the last tenth.")] = None,
    level: Annotated[str, typer.Option(help="Of tokens: word, character.")] = "word",
    vocabulary: Annotated[
        int | None, typer.Option(help="Tokens that are kept, the most frequent ones. [default: all]")
    ] = None,
    kind: Annotated[str, typer.Option(help="lstm or gru.")] = "lstm",
    width: Annotated[int, typer.Option(min=1, help="Of the embedding and of the layers.")] = 200,
    layers: Annotated[int, typer.Option(min=1)] = 1,
    tied: Annotated[bool, typer.Option(help="One weight for the embedding and the output.")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Of the float network.")] = 6,
    retrain_epochs: Annotated[int, typer.Option(min=1, help="Of each retrained one.")] = 2,
    batch: Annotated[int, typer.Option(min=1, help="Columns of the text that are read side by side.")] = 32,
    unroll: Annotated[int, typer.Option(min=1, help="Steps through which gradients go back.")] = 32,
    seed: Annotated[list[int] | None, typer.Option(help="May be given again. [default: 0, 1, 2]")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    results: Annotated[
        Path | None,
        typer.Option(help="JSON file, with a page beside it; a later call goes on where one stopped."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Perplexity with weights of 2, 3 and 4 bits, then with inputs of few bits too, trained: alternating and greedy."""
    from bittern.bench.sequences import run as bench
    from bittern.bench.sequences.texts import read_texts
    from bittern.cli.screen import screen

    levels, kinds = ("word", "character"), ("lstm", "gru")
    if level not in levels:
        raise unknown("level", level, levels)
    if kind not in kinds:
        raise unknown("kind", kind, kinds)
    texts = read_texts(text, test, "word" if level == "word" else "character", vocabulary)
    with screen(stderr=True).status("training") as status:
        report = bench.run(
            texts,
            command=shlex.join(["bittern", *sys.argv[1:]]),
            level=level,
            seeds=tuple(seed or (0, 1, 2)),
            kind="lstm" if kind == "lstm" else "gru",
            width=width,
            layers=layers,
            tied=tied,
            epochs=epochs,
            retrain_epochs=retrain_epochs,
            batch=batch,
            unroll=unroll,
            path=results,
            threads=threads,
            on_run=lambda r: status.update(f"{r.name} {r.weight_bits}/{r.input_bits}: {r.perplexity:.2f}"),
        )
    typer.echo(report.to_json() if as_json else str(report))
