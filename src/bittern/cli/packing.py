"""`bittern pack` and `bittern run`: from a trained network to answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bittern.cli import names
from bittern.cli.errors import Misused

VERIFIED_IMAGES = 256
"""Test images on which a packed model is compared with its training graph."""


def pack(
    target: Annotated[Path, typer.Argument(help="A run folder of 'bittern train', or a checkpoint in one.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The packed file to write.")],
    data: Annotated[
        str | None, typer.Option(help=f"To compare on: {names.DATA_HELP} [default: that of the training]")
    ] = None,
) -> None:
    """Pack a trained network into one file, and check that both give the same answers."""
    from bittern import deploy
    from bittern._version import __version__
    from bittern.cli import run_folder
    from bittern.cli.targets import info_of
    from bittern.data import normalize

    if output.resolve() in (target.resolve(), run_folder.find(target)[1].resolve()):
        raise Misused(f"--output {output} is the network itself; name another file")
    run, network = run_folder.trained(target)
    images = names.data_set(names.data_spec(data) if data is not None else run.options.data)
    if images.image_shape != run.input_shape:
        shape = " x ".join(str(n) for n in images.image_shape)
        raise ValueError(f"{images.name} has images of {shape}, and the network takes other ones; give its own data")
    batch = normalize(images.test_images[:VERIFIED_IMAGES], run.mean, run.std)
    packed = deploy.pack(network, batch[:1])
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


def run(
    file: Annotated[Path, typer.Argument(help="A packed file.")],
    images: Annotated[list[Path], typer.Argument(help="Image files; PNG, JPEG and whatever else Pillow reads.")],
    top: Annotated[int, typer.Option(help="How many classes to print for each image.")] = 1,
    invert: Annotated[
        bool, typer.Option("--invert", help="Swap black and white first: for dark ink where training had bright.")
    ] = False,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Let real layers compute in bfloat16: faster on some CPUs, not exact.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False,
) -> None:
    """Predict image files with a packed network."""
    import json

    import torch

    from bittern.cli.images import read_image
    from bittern.cli.targets import load_packed, packed_info
    from bittern.data import normalize

    packed = load_packed(file)
    info = packed_info(file, packed)
    if bf16:
        packed = packed.with_real(torch.bfloat16)
    if not 1 <= top <= len(info.classes):
        raise Misused(f"--top must lie in 1 ... {len(info.classes)}, the classes; got {top}")
    if len(packed.input_shape) != 3:
        raise ValueError(f"{file} takes inputs of shape {list(packed.input_shape)}, which are no images")
    pixels = torch.stack([read_image(path, packed.input_shape, invert=invert) for path in images])
    shares = torch.softmax(packed(normalize(pixels, info.mean, info.std)), dim=1)
    if shares.shape[1] != len(info.classes):
        raise ValueError(f"{file} gives {shares.shape[1]} answers and names {len(info.classes)} classes; pack it again")
    width = max(len(str(path)) for path in images)
    for path, row in zip(images, shares, strict=True):
        best = [(info.classes[int(i)], float(row[i])) for i in row.argsort(descending=True, stable=True)[:top]]
        if as_json:
            answers = [{"class": name, "probability": round(share, 6)} for name, share in best]
            typer.echo(json.dumps({"image": str(path), "answers": answers}, ensure_ascii=False))
        else:
            typer.echo(f"{path!s:{width}}  " + "  ".join(f"{name} {share:.1%}" for name, share in best))
