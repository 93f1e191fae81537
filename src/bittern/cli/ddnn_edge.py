# SPDX-License-Identifier: Apache-2.0
"""`bittern ddnn edge`: ask devices and a cloud for the classes of examples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bittern.cli import names
from bittern.cli.errors import Misused

if TYPE_CHECKING:
    from torch import Tensor

    from bittern.ddnn import Answers, DDNNFolder, Edge


def edge(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that 'bittern ddnn train' wrote.")],
    device: Annotated[list[str], typer.Option(help="Address of a device, in their order; once for each.")],
    cloud: Annotated[str, typer.Option(help="Address of the cloud.")],
    count: Annotated[int, typer.Option(help="How many examples to ask for, from number 0.")] = 100,
    batch: Annotated[int, typer.Option(help="Examples of a question.")] = 100,
    threshold: Annotated[
        list[float] | None,
        typer.Option(help="Of the local exit, then of the edge level, in [0, 1]. [default: those of the training]"),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for an answer; who is later is missing.")] = 2.0,
    data: Annotated[str | None, typer.Option(help=f"To judge answers by its test labels: {names.DATA_HELP}")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask every device about examples, exit where it is sure enough, and ask the cloud about the rest."""
    from bittern.ddnn import Edge, open_ddnn
    from bittern.ddnn.frames import MOST_EXAMPLES

    if count < 1 or not 1 <= batch <= MOST_EXAMPLES:
        raise Misused(f"--count must be at least 1, --batch lie in 1 ... {MOST_EXAMPLES}; got {count} and {batch}")
    names.set_threads(threads)
    opened = open_ddnn(folder)
    wanted = tuple(threshold) if threshold else opened.thresholds
    labels = None if data is None else _labels(data)
    if labels is not None and len(labels) < count:
        raise Misused(f"--count {count}: {data} has {len(labels)} test examples")
    found = _Found()
    with Edge(opened.shapes, opened.local(), opened.edge(), device, cloud, timeout) as asking:
        for start in range(0, count, batch):
            numbers = range(start, min(start + batch, count))
            found.add(asking(numbers, wanted), None if labels is None else labels[start : numbers.stop])
            found.refusals.update(asking.refusals)
        _tell(found, asking, opened, as_json)


def _labels(data: str) -> Tensor:
    from bittern.data import ImageData

    images = names.data_set(names.data_spec(data))
    if not isinstance(images, ImageData):
        raise Misused(f"--data {data}: must be digits, MNIST, Fashion-MNIST or CIFAR-10, as for the devices")
    return images.test_labels


@dataclass
class _Found:
    """What was answered so far."""

    examples: int = 0
    batches: int = 0
    right: int | None = None
    exits: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    """In how many batches."""
    refusals: dict[str, str] = field(default_factory=dict)

    def add(self, answers: Answers, labels: Tensor | None) -> None:
        self.examples += len(answers.exits)
        self.batches += 1
        self.exits.update(answers.exits)
        self.missing.update(answers.missing)
        if labels is not None:
            self.right = (self.right or 0) + int((answers.classes == labels).sum())


def _tell(found: _Found, asking: Edge, opened: DDNNFolder, as_json: bool) -> None:
    import json

    from bittern.cli.screen import plain_table, screen
    from bittern.ddnn import paper_bytes

    count, shapes = found.examples, opened.shapes
    shares = {name: found.exits[name] / count for name in ("local", "edge", "cloud") if name in found.exits}
    filters, outputs = shapes.features[0], shapes.features[1] * shapes.features[2]
    by_paper = paper_bytes(shapes.classes, shares.get("local", 0.0), filters, outputs)
    accuracy = None if found.right is None else found.right / count
    traffic = {name: {"received": one.received, "sent": one.sent} for name, one in asking.traffic.items()}
    if as_json:
        values = {
            "examples": count,
            "accuracy": accuracy,
            "shares": shares,
            "missing": dict(found.missing),
            "batches": found.batches,
            "bytes": traffic,
            "paper_bytes": by_paper,
        }
        typer.echo(json.dumps(values))
        return
    judged = "" if accuracy is None else f", accuracy {accuracy:.2%}"
    left = ", ".join(f"{share:.1%} left at the {name} exit" for name, share in shares.items())
    typer.echo(f"{count:,} examples{judged}: {left}")
    table = plain_table(
        "place", "bytes from it", "an example", "bytes to it", right=("bytes from it", "an example", "bytes to it")
    )
    for name, one in traffic.items():
        table.add_row(name, f"{one['received']:,}", f"{one['received'] / count:.1f}", f"{one['sent']:,}")
    screen().print(table)
    typer.echo(f"the paper's formula has {by_paper:.1f} bytes of a device an example")
    for name, batches in found.missing.items():
        why = found.refusals.get(name)
        typer.echo(f"{name} was missing in {batches} of {found.batches} batches{'' if why is None else f': {why}'}")
