# SPDX-License-Identifier: Apache-2.0
"""`bittern ddnn train`: train a DDNN on tiles of images, choose its thresholds, and write its packed parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bittern.cli import names
from bittern.cli.errors import Misused, unknown

if TYPE_CHECKING:
    from torch import Tensor

    from bittern.data import Views
    from bittern.ddnn import ThresholdRow, Tiling
    from bittern.models import DDNN, Aggregation, Level

HELD_OUT = 0.1
"""Share of the training part by which thresholds are chosen."""
COMPARED = 256
"""Test examples on which the packed parts are compared with the trained network."""
NONE = "none"
JOIN_HELP = "MP (maximum), AP (average) or CC (concatenation)"


def train(
    folder: Annotated[Path, typer.Argument(help="Folder for the packed parts.")],
    data: Annotated[str, typer.Option(help="digits, or a folder with MNIST, Fashion-MNIST or CIFAR-10.")] = "digits",
    rows: Annotated[int, typer.Option(help="Rows of tiles; each tile is what one device sees.")] = 2,
    columns: Annotated[int, typer.Option(help="Columns of tiles.")] = 3,
    method: Annotated[str, typer.Option(help=names.METHOD_HELP)] = "BNN",
    real_inputs: Annotated[
        str, typer.Option(help="Method of weights whose inputs are real, such as BWN; float: they are real.")
    ] = names.FLOAT,
    local: Annotated[str, typer.Option(help=f"How the local exit joins the devices: {JOIN_HELP}.")] = "MP",
    edge: Annotated[str, typer.Option(help=f"The same of an edge level; none: there is none. {JOIN_HELP}.")] = NONE,
    cloud: Annotated[
        str | None, typer.Option(help="The same of the cloud, where there is no edge level. [default: CC]")
    ] = None,
    shared: Annotated[bool, typer.Option("--shared", help="All devices have the same weights.")] = False,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Examples per step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW, falling to 0.")] = 0.02,
    loses: Annotated[float, typer.Option(help="Accuracy, a share, that thresholds may lose.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of weights, order and the held-out part.")] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads. [default: torch's own choice]")] = None,
) -> None:
    """Train on tiles of images, choose thresholds on a held-out tenth, and write every part packed."""
    import torch

    from bittern.data import ImageData, tiled
    from bittern.ddnn import Tiling, choose_thresholds, pack_ddnn, save_ddnn, threshold_table

    if threads is not None:
        names.set_threads(threads)
    if edge != NONE and cloud is not None:
        raise Misused("--cloud: behind an edge level the cloud hears the edge alone and joins nothing; leave it out")
    joins = aggregation(local), level(edge), level(cloud)
    images = names.data_set(names.data_spec(data))
    if not isinstance(images, ImageData):
        raise Misused(f"--data {data}: a DDNN trains on images in memory: digits, MNIST, Fashion-MNIST or CIFAR-10")
    learn, test = tiled(images, rows, columns)
    learn, held = learn.split(HELD_OUT, seed)
    torch.manual_seed(seed)
    network = _network(method, real_inputs, len(images.classes), learn, joins, shared)
    _trained(network, learn, test, epochs, batch_size, learning_rate, seed)
    typer.echo("packing, which torch.export takes a while for")
    packed = pack_ddnn(network, [view[:COMPARED] for view in test.views])
    table = threshold_table(packed.exits(held.views), held.labels)
    chosen = choose_thresholds(table, loses)
    tiling = Tiling(rows, columns, images.mean, images.std)
    save_ddnn(packed, folder, thresholds=chosen.thresholds, classes=images.classes, tiling=tiling)
    _write_table(folder / "thresholds.csv", table)
    answers = packed(test.views, chosen.thresholds)
    right = float((answers.classes == test.labels).double().mean())
    typer.echo(
        f"thresholds {', '.join(f'{t:g}' for t in chosen.thresholds)}, chosen on {len(held):,} held-out examples: test "
        f"accuracy {right:.2%}, {answers.share('local'):.1%} leave at the local exit, saved in {folder}"
    )


def aggregation(name: str) -> Aggregation:
    """The aggregation of a name, in any case. Raises: Misused."""
    from bittern.models.aggregation import ALL

    for known in ALL:
        if known.name.lower() == name.lower():
            return known
    raise unknown("aggregation", name, [known.name for known in ALL])


def level(name: str | None) -> Level | None:
    """A level with this aggregation; None for none, or where it is not said. Raises: Misused."""
    from bittern.models import Level

    return None if name in (None, NONE) else Level(aggregation=aggregation(str(name)))


def views_of(images: Tensor, tiling: Tiling) -> list[Tensor]:
    """What each device sees of images that are not normalized."""
    from bittern.data import normalize, tiles

    return [normalize(tile, tiling.mean, tiling.std) for tile in tiles(images, tiling.rows, tiling.columns)]


def _network(
    method: str,
    real_inputs: str,
    classes: int,
    views: Views,
    joins: tuple[Aggregation, Level | None, Level | None],
    shared: bool,
) -> DDNN:
    from bittern.models import ddnn

    local, edge, cloud = joins
    channels, height, width = views.shape
    return ddnn(
        names.method(method, ()),
        classes,
        channels,
        views=len(views.views),
        input_size=(height, width),
        local=local,
        edge=edge,
        cloud=cloud,
        shared=shared,
        real_inputs=names.method(real_inputs, ()),
    )


def _trained(
    network: DDNN, learn: Views, test: Views, epochs: int, batch_size: int, learning_rate: float, seed: int
) -> None:
    from bittern.train import Cosine, Epoch, ExitHistory, ManyExits, Recipe
    from bittern.train import train as run

    task = ManyExits()
    history = ExitHistory(task, network, test)

    def tell(epoch: Epoch) -> None:
        history(epoch)
        typer.echo(f"epoch {epoch.epoch} of {epochs}: {_told(history.epochs[-1])}, {epoch.seconds:.1f} s")

    recipe = Recipe(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, schedule=Cosine(), seed=seed)
    run(network, (learn, test), recipe, task=task, on_epoch=tell, progress=False)


def _told(accuracies: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2%}" for name, value in accuracies.items())


def _write_table(path: Path, rows: Sequence[ThresholdRow]) -> None:
    from bittern._files import write_atomically

    early = ["local", "edge"][: len(rows[0].thresholds)]
    head = [f"{name}_threshold" for name in early] + ["accuracy"] + [f"{name}_share" for name in (*early, "cloud")]
    lines = [",".join(head)]
    lines += [",".join(f"{v:.6g}" for v in (*row.thresholds, row.accuracy, *row.shares)) for row in rows]
    write_atomically(path, ("\n".join(lines) + "\n").encode())
