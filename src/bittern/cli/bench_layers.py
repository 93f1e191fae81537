# SPDX-License-Identifier: Apache-2.0
"""`bittern bench weights` and `bittern bench train`: layers with few bits, and steps of networks made of them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bittern.cli import lists, names

OUT_HELP = "JSON file of the results, with a page beside it; started again, it goes on where it stopped."


def weights(
    threads: Annotated[list[int] | None, typer.Option(help="CPU threads; may be given again. [default: 1]")] = None,
    batches: Annotated[str, typer.Option(help="Numbers of inputs, with commas.")] = "1,4,8,32,128,512",
    shapes: Annotated[str, typer.Option(help="square, mlp, ragged, with commas; or all.")] = "square",
    types: Annotated[str, typer.Option(help="Of inputs: float32, bfloat16, float16, with commas; or all.")] = (
        "float32,bfloat16"
    ),
    formats: Annotated[
        str | None,
        typer.Option(help="Of weights, with commas, as in nf4,groups3-zero-int8; or all. [default: five of them]"),
    ] = None,
    works: Annotated[str, typer.Option(help="forward, step (also back to the input), with commas.")] = "forward,step",
    peers: Annotated[bool, typer.Option(help="Time other libraries beside torch's float32.")] = True,
    codecs: Annotated[bool, typer.Option(help="Time block codecs too.")] = True,
    size: Annotated[int, typer.Option(help="Features of a square layer.")] = 4096,
    layers: Annotated[int, typer.Option(help="Square layers in a pass with one input.")] = 24,
    budget: Annotated[float, typer.Option(help="Seconds for each row.")] = 0.8,
    out: Annotated[Path | None, typer.Option(help=OUT_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time linear layers of 2 to 8 bits, with weights from memory, against torch and other libraries."""
    from bittern.bench.weights import run as bench
    from bittern.bench.weights.case import WORKS
    from bittern.bench.weights.contender import FLOATS
    from bittern.bench.weights.formats import DEFAULT, FORMATS
    from bittern.bench.weights.peers import PEERS
    from bittern.bench.weights.shapes import SHAPES
    from bittern.cli.screen import screen

    known_types = {str(dtype).removeprefix("torch."): dtype for dtype in FLOATS}
    choice = bench.Choice(
        batches=lists.numbers("--batches", batches),
        shapes=tuple(shape(size) for shape in lists.several("shape", shapes, {s.__name__: s for s in SHAPES})),
        types=lists.several("type", types, known_types),
        works=lists.several("work", works, {work: work for work in WORKS}),
        formats=lists.several(
            "format", ",".join(DEFAULT) if formats is None else formats, {f.name: f for f in FORMATS}
        ),
        peers=PEERS if peers else PEERS[:1],
        size=size,
        layers=layers,
        elements=bench.ELEMENTS if codecs else 0,
    )
    with screen(stderr=True).status("measuring") as status:
        result = bench.run(
            tuple(threads or (1,)),
            command=shlex.join(["bittern", *sys.argv[1:]]),
            budget_s=budget,
            choice=choice,
            out=out,
            on_row=lambda subject: status.update(f"measuring {subject}"),
        )
    typer.echo(result.to_json() if as_json else str(result))


def train(
    threads: Annotated[list[int] | None, typer.Option(help="CPU threads; may be given again. [default: 1]")] = None,
    models: Annotated[str, typer.Option(help="resnet20_cifar, vgg_small, mlp, with commas; or all.")] = "all",
    methods: Annotated[
        str | None,
        typer.Option(help=f"Methods ('bittern methods'), or MODULE:CLASS, with commas; or all. {names.COMPARED_HELP}"),
    ] = None,
    budget: Annotated[float, typer.Option(help="Seconds for each method and model.")] = 4.0,
    out: Annotated[Path | None, typer.Option(help=OUT_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time a training step of binary methods beside the float twin, and count the memory of its graph."""
    from bittern.bench.train import run as bench
    from bittern.bench.train.networks import NETWORKS
    from bittern.cli.screen import screen

    networks = lists.several("model", models, {network.name: network for network in NETWORKS})
    chosen = names.method_classes(None if methods is None else methods.split(","))
    if methods == lists.ALL:
        chosen = names.those_that_fit(chosen, [network.build for network in networks])
    with screen(stderr=True).status("measuring") as status:
        result = bench.run(
            tuple(threads or (1,)),
            command=shlex.join(["bittern", *sys.argv[1:]]),
            budget_s=budget,
            networks=networks,
            methods=chosen,
            out=out,
            on_row=lambda subject: status.update(f"measuring {subject}"),
        )
    typer.echo(result.to_json() if as_json else str(result))
