# SPDX-License-Identifier: Apache-2.0
"""`bittern pack`: from a trained network to one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bittern.cli import names, sizes
from bittern.cli.errors import Misused

NOT_PACKED = (".c", ".h", ".pte", ".pt", ".pth", ".onnx")
"""Ends of the names of other files, under which nobody would look for a packed network."""
VERIFIED_IMAGES = 256
"""Test images on which a packed model is compared with its training graph."""


def pack(
    target: Annotated[Path, typer.Argument(help="A run folder of 'bittern train', or a checkpoint in one.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The packed file to write.")],
    data: Annotated[
        str | None, typer.Option(help=f"To compare on: {names.DATA_HELP} [default: that of the training]")
    ] = None,
    dynamic: Annotated[list[str] | None, typer.Option(help=sizes.DYNAMIC_HELP)] = None,
) -> None:
    """Pack a trained network into one file, and check that both give the same answers."""
    from bittern import deploy
    from bittern._version import __version__
    from bittern.cli import run_folder
    from bittern.cli.screen import screen
    from bittern.cli.targets import info_of
    from bittern.data import normalize

    if output.suffix in NOT_PACKED:
        raise Misused(f"--output {output}: a packed file is no {output.suffix} file; name it {output.stem}.safetensors")
    if output.resolve() in (target.resolve(), run_folder.find(target)[1].resolve()):
        raise Misused(f"--output {output} is the network itself; name another file")
    named = sizes.dynamic(dynamic or ())
    run, network = run_folder.trained(target)
    images = names.data_set(names.data_spec(data) if data is not None else run.options.data)
    if images.image_shape != run.input_shape:
        shape = " x ".join(str(n) for n in images.image_shape)
        raise ValueError(f"{images.name} has images of {shape}, and the network takes other ones; give its own data")
    batch = normalize(images.first_test_images(VERIFIED_IMAGES), run.mean, run.std)
    with screen(stderr=True).status("packing, which torch.export may take a minute for"):
        packed = deploy.pack(network, batch[:1], dynamic=named)
    with screen(stderr=True).status(f"comparing on {len(batch)} images"):
        found = deploy.verify(packed, network, batch)
    if not found.exact:
        raise ValueError(f"the packed model disagrees with the trained one, nothing was written: {found}")
    packed.info.update(info_of(run).to_info())
    packed.info.update(
        {"network": run.options.model, "method": run.options.method, "packed_by": f"bittern {__version__}"}
    )
    packed.save(output)
    typer.echo(f"{output}: {output.stat().st_size:,} bytes, compared on {len(batch)} test images of {images.name}")
    typer.echo(str(found))
