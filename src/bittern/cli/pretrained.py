# SPDX-License-Identifier: Apache-2.0
"""`bittern pretrained`: the networks that come with bittern, their cards, and their answers to raw examples."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bittern.cli.errors import Misused, unknown

if TYPE_CHECKING:
    from bittern.pretrained import Answer, Card, Pretrained

WIDTH = 110
"""Columns of a card."""


def pretrained(
    name: Annotated[str | None, typer.Argument(help="A network, to read its card.")] = None,
    examples: Annotated[
        list[str] | None, typer.Argument(help="Raw examples to ask it about: files, or texts for a network of texts.")
    ] = None,
    top: Annotated[int | None, typer.Option(help="Answers to each example, at most.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the trained networks that come with bittern, read a card, or ask one."""
    from bittern import pretrained as shelf

    if name is None:
        _list([shelf.card(known) for known in shelf.names()], as_json)
        return
    if name not in shelf.names():
        raise unknown("network", name, shelf.names(), " ('bittern pretrained' lists them)")
    if not examples:
        if top is not None:
            raise Misused("--top says how many answers to print; give an example to ask about too")
        card = shelf.card(name)
        typer.echo(card.to_json() if as_json else "\n".join(_lines(card)), nl=not as_json)
        return
    _ask(shelf.load(name), examples, top, as_json)


def _list(cards: list[Card], as_json: bool) -> None:
    from bittern.bench.cards.words import gap, of_file, over_seeds
    from bittern.bench.core.words import size
    from bittern.cli.screen import plain_table, screen

    if as_json:
        typer.echo(json.dumps([json.loads(card.to_json()) for card in cards], ensure_ascii=False, indent=2))
        return
    numbers = ("score", "seeds", "less the twin", "bytes")
    table = plain_table("name", "task", "method", "network", *numbers, right=numbers, whole=("name",))
    for card in cards:
        scores = of_file(card), over_seeds(card), gap(card)
        table.add_row(card.name, card.title, card.method, card.network, *scores, size(card.bytes))
    screen().print(table)
    typer.echo(
        "\nscore: of the file on the test set, %; seeds: of all its trainings, and how they compare with float twins\n"
        "'bittern pretrained NAME' shows a card, 'bittern pretrained NAME EXAMPLE' asks a network"
    )


def _lines(card: Card) -> list[str]:
    from bittern.bench.cards.words import rows

    said = [f"{card.name}: {card.title}", ""]
    for what, text in rows(card):
        said += textwrap.wrap(f"{what}: {text}", WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    return said


def _ask(network: Pretrained, examples: list[str], top: int | None, as_json: bool) -> None:
    from bittern.cli.screen import printable

    if network.card.takes.startswith("a stroke"):
        raise Misused(f"{network.card.name} takes {network.card.takes}, which no file here holds; ask it from Python")
    for example in examples:
        answers = network.predict(example, top=top)
        if as_json:
            typer.echo(json.dumps({"example": example, "answers": [_as_json(a) for a in answers]}, ensure_ascii=False))
            continue
        words = ", ".join(_words(answer) for answer in answers) or "nothing"
        typer.echo(f"{printable(example)}: {printable(words) if len(answers) < 9 else words}")


def _words(answer: Answer) -> str:
    where = "" if answer.box is None else f" at {' '.join(f'{side:.0f}' for side in answer.box)}"
    return f"{answer.name} {100 * answer.score:.1f}%{where}"


def _as_json(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {"name": answer.name, "score": round(answer.score, 6)}
    if answer.box is not None:
        found["box"] = [round(side, 1) for side in answer.box]
    return found
