# SPDX-License-Identifier: Apache-2.0
"""`bittern methods`: what each method does, told from its docstring and from what it does to a small layer."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from bittern.cli import names

if TYPE_CHECKING:
    from bittern.quantizer import Quantizer

BARS = " ▁▂▃▄▅▆▇█"
REACH = 1.5
"""The estimator is sampled where |x| is at most this."""
SAMPLES = 13


def methods(
    name: Annotated[str | None, typer.Argument(help="A method, to read all about it.")] = None,
) -> None:
    """List the methods, or explain one."""
    if name is None:
        _list()
    else:
        _explain(names.method_class(name))


def _list() -> None:
    from rich.text import Text

    from bittern.bench.methods.doc import facts
    from bittern.cli.screen import plain_table, screen

    table = plain_table(
        "method", "year", "arXiv", "weight scale", "input", "estimator", whole=("method", "arXiv", "estimator")
    )
    for method in names.listed_methods():
        f = facts(method)
        cells = (f.name, str(f.year), f.arxiv or "-", f.weight_scale, f.activation, estimator(method))
        table.add_row(*(Text(cell) for cell in cells))
    screen().print(table)
    typer.echo(
        f"\nestimator: stands in for the derivative of the input's sign, x = {-REACH} ... {REACH}\n"
        "'bittern methods NAME' explains a method, its schedule and its options"
    )


def _explain(method: type[Quantizer]) -> None:
    from bittern.bench.methods.doc import facts, recipe_rows
    from bittern.recipes import for_method

    f = facts(method)
    typer.echo(f"{f.title}\n\n{textwrap.fill(f.sentence, 100)}\n\n{f.formulas}\n")
    typer.echo(textwrap.fill(f"Differences: {f.differences}", 100))
    typer.echo(f"Source: {f.source}")
    record = for_method(method)
    typer.echo(textwrap.fill(f"Latent weights start: {f.start}. Clipped: {f.clip_latent}.", 100))
    typer.echo(f"\nRecipe, {record}; 'bittern train --recipe {f.name.lower()} --epochs N' scales it:")
    for name, value in recipe_rows(record):
        typer.echo(f"  {name}: {value}")
    for sentence in record.differences:
        typer.echo(textwrap.fill(f"  - {sentence}", 100))
    if f.options:
        typer.echo("\nOptions:")
    for option, default, takes in f.options:
        typer.echo(f"  --option {option}={default}   {takes}")


def estimator(method: type[Quantizer]) -> str:
    """The gradient that reaches the input, as a row of bars over x; a method's own scale, its highest bar full.

    Of an input of several terms that of the first.
    """
    import torch

    from bittern.quantizer import LayerShape, input_terms

    state = torch.random.get_rng_state()
    quantizer = method(LayerShape((2, 1, 3, 3))).eval()
    torch.random.set_rng_state(state)
    x = torch.linspace(-REACH, REACH, SAMPLES).view(-1, 1, 1, 1).requires_grad_()
    with torch.enable_grad():
        input_terms(quantizer, x)[0].values.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    gradient = x.grad.flatten().clamp_min(0.0)
    heights = (gradient / gradient.max() * (len(BARS) - 1)).round().int()
    return "".join(BARS[int(h)] for h in heights)
