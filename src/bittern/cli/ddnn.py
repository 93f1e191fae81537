# SPDX-License-Identifier: Apache-2.0
"""`bittern ddnn`: train a network that lies on devices, an edge and a cloud, and run its parts as processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bittern.cli import ddnn_edge, ddnn_train, names
from bittern.cli.errors import Misused

if TYPE_CHECKING:
    from threading import Event

    from torch import Tensor

    from bittern.ddnn import Cloud, DDNNFolder, Device, Server
    from bittern.ddnn.places import Look

app = typer.Typer(help="Networks on devices, an edge and a cloud, with an exit at each.")
app.command()(ddnn_train.train)
app.command()(ddnn_edge.edge)

ANYWHERE_HERE = "tcp://127.0.0.1:0"
VIEWS = "views"
"""The array of a file of views."""
Where = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that 'bittern ddnn train' wrote.")]
At = Annotated[
    str,
    typer.Option("--at", help="Address to listen at, tcp://HOST:PORT; port 0 takes a free one. Nothing is encrypted."),
]


@app.command()
def device(
    folder: Where,
    index: Annotated[int, typer.Argument(help="Which of the devices this is, from 0.")],
    at: At = ANYWHERE_HERE,
    data: Annotated[str | None, typer.Option(help=f"To see its tile of the test images: {names.DATA_HELP}")] = None,
    views: Annotated[
        Path | None, typer.Option(help="To see these: a .npz with an array 'views', float32 [count, channels, h, w].")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Run one device: it answers the edge until Ctrl-C. Cameras need a few lines of Python instead (docs/ddnn.md)."""
    from bittern.ddnn import Device, device_server, open_ddnn

    if (data is None) == (views is None):
        raise Misused("a device needs something to see: give one of --data and --views")
    names.set_threads(threads)
    opened = open_ddnn(folder)
    programs = opened.device(index)
    seen = _tile(opened, index, data) if data is not None else _views(views)
    place = Device(programs, opened.shapes, _look(seen))
    with device_server(at) as server:
        _run(f"device {index} of {opened.shapes.devices}", server, place)


@app.command()
def cloud(
    folder: Where, at: At = ANYWHERE_HERE, threads: Annotated[int, typer.Option(help="CPU threads.")] = 1
) -> None:
    """Run the cloud: it answers the edge until Ctrl-C."""
    from bittern.ddnn import Cloud, cloud_server, open_ddnn

    names.set_threads(threads)
    opened = open_ddnn(folder)
    place = Cloud(opened.cloud(), opened.shapes)
    with cloud_server(at, opened.shapes) as server:
        _run("cloud", server, place)


def _run(name: str, server: Server, place: Device | Cloud) -> None:
    from bittern.ddnn import serve

    with _until_told() as stop:
        typer.echo(f"{name} listens at {server.address}; Ctrl-C ends it")
        serve(server, place, stop)
    traffic = server.traffic
    typer.echo(
        f"{name} ends: {place.examples:,} examples, {traffic.received:,} bytes received, {traffic.sent:,} sent, "
        f"{traffic.refused:,} messages refused"
    )


@contextmanager
def _until_told() -> Iterator[Event]:
    """An event that Ctrl-C and SIGTERM set."""
    from threading import Event

    stop = Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _look(seen: Tensor) -> Look:
    """Examples by their place among those that were read."""

    def look(numbers: list[int]) -> Tensor:
        if numbers and max(numbers) >= len(seen):
            raise IndexError(f"this device has seen the examples 0 ... {len(seen) - 1}; asked for {max(numbers)}")
        return seen[numbers]

    return look  # type: ignore[return-value]  # an index must be a list


def _tile(opened: DDNNFolder, index: int, data: str) -> Tensor:
    from bittern.data import ImageData
    from bittern.ddnn.folder import NAME

    images = names.data_set(names.data_spec(data))
    if opened.tiling is None or not isinstance(images, ImageData):
        raise ValueError(
            f"--data: only images in memory, and a folder whose {NAME} has a tiling, can be cut; use --views"
        )
    return ddnn_train.views_of(images.test_images, opened.tiling)[index]


def _views(path: Path | None) -> Tensor:
    import numpy as np
    import torch

    from bittern.data.npz import read_npz

    assert path is not None
    return torch.from_numpy(read_npz(path, {VIEWS: np.dtype(np.float32)}, {VIEWS: 4})[VIEWS])


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
