# SPDX-License-Identifier: Apache-2.0
"""`python -m bittern.bench.cards.page`: writes docs/pretrained.md from the cards.

All numbers on the page come from the cards. A test compares the committed page with a fresh one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bittern import pretrained
from bittern._files import write_atomically
from bittern.bench.cards.words import gap, of_file, over_seeds, rows
from bittern.bench.core.words import size
from bittern.pretrained.card import Card

PAGE = Path("docs") / "pretrained.md"
"""Relative to the root of the repository, where the command runs."""
INTRO = """# Trained networks

<!-- Written by `python -m bittern.bench.cards.page`; do not edit. A test fails when this page is stale. -->

Small binary networks come with bittern, packed. By its name each is there at once, with everything that an answer
takes: how a raw example becomes its input, the names of its classes, what its output says.

```python
import torch

import bittern

net = bittern.load("digits")
raw = torch.rand(1, 8, 8)      # or the path of a picture, or a PIL image
net.predict(raw)               # (Answer(name='3', score=0.41, box=None),): the likeliest class
net.predict(raw, top=3)        # the three likeliest
net.card.score                 # of all that the card says; net.card.takes says what a raw example is
net.classes                    # names, in the order of the output
x = net.prepare(raw)           # the input by itself, a batch of one
net(x)                         # what the packed network answers
net.packed                     # a bittern.Packed: to_c, to_onnx, to_executorch take it
```

A network of texts takes a sentence, one of sounds a WAV file or samples; a detector answers with boxes in pixels of the
raw picture. A name has neither dot nor separator; a file is `bittern.load("net.safetensors")`, a path, or `"./net"`. On
the command line:

    bittern pretrained                           # the list
    bittern pretrained digits                    # a card
    bittern pretrained digits seven.png --top 3  # an answer; --json for programs

The files are data, safetensors and JSON: checked against the SHA-256 of the card, then read as any packed file is
([format](packed_format.md)). They are small networks, trained in minutes on a CPU, to try what Bittern does, to test a
deployment, and to start from: no state of the art.
"""
HOW = """## How they are made

Each network is a trial of [`bittern bench run`](bench.md), trained with several seeds beside its float twin on training
examples alone. `make pretrained` trains and publishes all of them, and goes on where it was stopped. Their trials
without the networks, curves included, are tables in `docs/results/pretrained/`.

    bittern bench run --store mine.trials --track learning_task --task digits --network vgg_small --method ReCU
    bittern bench publish mine.trials my-digits --task digits --network vgg_small --method ReCU --out folder/

`publish` takes the seed whose score on *held-out training examples* is the median, never the best on the test set, and
writes `my-digits.bittern` and its card, `my-digits.json`; `bittern.pretrained.load("my-digits", "folder/")` reads them.
A task that states no licence to pass networks on under is refused. "±" is the standard deviation over the seeds; the
gap is that to the float twin of the same seeds.
"""
HEAD = """| name | task | method, network | file, % | seeds, % | less the float twin, points | bytes |
|---|---|---|--:|--:|--:|--:|"""


def page(cards: Sequence[Card]) -> str:
    """The whole page."""
    parts = [INTRO, _table(cards), HOW, "## Cards\n"]
    parts += [_section(card) for card in cards]
    return "\n".join(parts)


def _table(cards: Sequence[Card]) -> str:
    lines = [HEAD]
    for card in cards:
        what = f"| [`{card.name}`](#{card.name}) | {card.title} | {card.method}, `{card.network}` "
        lines.append(f"{what}| {of_file(card)} | {over_seeds(card)} | {gap(card)} | {size(card.bytes)} |")
    total = size(sum(card.bytes for card in cards))
    return "\n".join(
        [*lines, "", f"Scores on the whole test set: of the file, and mean ± of all seeds. Together: {total}.", ""]
    )


def _section(card: Card) -> str:
    lines = [f"### {card.name}", "", f"{card.title}.", "", "| | |", "|---|---|"]
    lines += [f"| {what} | {_cell(what, text)} |" for what, text in rows(card)]
    lines += ["", *card.notes, "", *_curves(card), ""]
    return "\n".join(lines)


def _cell(what: str, text: str) -> str:
    text = text.replace("|", "\\|")
    return f"`{text}`" if what in ("command", "sha256") else text


def _curves(card: Card) -> list[str]:
    """The training log, an epoch a row."""
    if not card.curves:
        return []
    names = list(card.curves)
    lines = [f"| epoch | {' | '.join(name.replace('_', ' ') for name in names)} |", "|--:" * (len(names) + 1) + "|"]
    for epoch, values in enumerate(zip(*card.curves.values(), strict=True), 1):
        lines.append(f"| {epoch} | {' | '.join(f'{value:.4f}' for value in values)} |")
    return lines


def main() -> None:
    if not PAGE.parent.is_dir():
        sys.exit(f"page: run this in the root of the repository; {PAGE.parent} is missing here")
    write_atomically(PAGE, page([pretrained.card(name) for name in pretrained.names()]).encode())
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
