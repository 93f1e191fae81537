# SPDX-License-Identifier: Apache-2.0
"""`bittern run`: a packed network's answers to image files."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from bittern.cli import sizes
from bittern.cli.errors import Misused

if TYPE_CHECKING:
    from torch import Tensor

    from bittern.cli.images import Change
    from bittern.deploy import Packed
    from bittern.deploy.image_info import ImageInfo

BATCH = 32
"""Images that are read and run at once."""


class Answer(NamedTuple):
    """What is known about one image file."""

    path: Path
    best: tuple[tuple[str, float], ...]
    """(class, probability), the most probable first."""
    changes: tuple[Change, ...]
    error: str | None
    """Why the file could not be read."""


def run(
    file: Annotated[Path, typer.Argument(help="A packed file.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them: whatever Pillow reads.")],
    top: Annotated[int, typer.Option(help="How many classes to print for each image.")] = 1,
    invert: Annotated[
        bool, typer.Option("--invert", help="Swap black and white first: for dark ink where training had bright.")
    ] = False,
    mean: Annotated[
        str | None,
        typer.Option(help="Subtracted from brightness 0 ... 1: 0.5, or 0.49,0.48,0.45 by channel. [default: FILE's]"),
    ] = None,
    std: Annotated[str | None, typer.Option(help="What that is divided by. [default: FILE's]")] = None,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Let real layers compute in bfloat16: not exact, slow on many CPUs.")
    ] = False,
    size: Annotated[list[str] | None, typer.Option(help=sizes.SIZE_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False,
) -> None:
    """Predict image files with a packed network."""
    from bittern.cli.images import image_files
    from bittern.cli.targets import for_images, load_packed, need, of_reals, packed_info

    packed = for_images(file, load_packed(file), size or ())
    info = _with_statistics(packed_info(file, packed), mean, std, packed.input_shape[0])
    names = _class_names(file, packed, info)
    if not 1 <= top <= len(names):
        raise Misused(f"--top must lie in 1 ... {len(names)}, the classes; got {top}")
    need(file, info, ("mean", "std"), ("mean", "std"))
    paths, left_out = image_files(images)
    if left_out:
        _note(f"{left_out} files in folders are not named as images are, and were left out")
    if bf16:
        packed = _in_bfloat16(packed)
    network = of_reals(file, packed)
    answers = []
    width = max(len(str(path)) for path in paths)
    for answer in _answers(network, packed.input_shape, info, names, paths, top=top, invert=invert):
        _print(answer, width, as_json)
        answers.append(answer)
    _tell_changes(answers)
    failed = sum(answer.error is not None for answer in answers)
    if failed:
        raise ValueError(f"{failed} of {len(answers)} images could not be read; the others are answered")


def _in_bfloat16(packed: Packed) -> Packed:
    """The same model, its warnings as notes."""
    import torch

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        changed = packed.with_real(torch.bfloat16)
    for warning in told:
        _note(str(warning.message))
    return changed


def _with_statistics(info: ImageInfo, mean: str | None, std: str | None, channels: int) -> ImageInfo:
    """The file's entries, or what the command line says instead. Raises: Misused."""
    from dataclasses import replace

    if mean is not None:
        info = replace(info, mean=_numbers("mean", mean, channels))
    if std is not None:
        info = replace(info, std=_numbers("std", std, channels))
    problem = replace(info, classes=None).problem(channels, None)
    if problem is not None:
        raise Misused(f"--mean, --std: {problem}")
    return info


def _numbers(name: str, text: str, channels: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise Misused(f"--{name} must be numbers with commas between, as in 0.49,0.48,0.45; got {text!r}") from None
    return values * channels if len(values) == 1 else values


def _class_names(file: Path, packed: Packed, info: ImageInfo) -> tuple[str, ...]:
    """Of the answers: numbers where the file has no names. Raises: ValueError for a network that does not classify."""
    from bittern.cli.targets import answers_of

    if len(packed.input_shape) != 3:
        raise ValueError(f"{file} takes inputs of shape {list(packed.input_shape)}, which are no images")
    shape = answers_of(packed)
    if len(shape) != 1:
        raise ValueError(f"{file} answers with values of shape {list(shape)}; run prints classes, of shape [classes]")
    return info.classes or tuple(str(i) for i in range(shape[0]))


def _answers(
    network: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    info: ImageInfo,
    names: Sequence[str],
    paths: Sequence[Path],
    *,
    top: int,
    invert: bool,
) -> Iterator[Answer]:
    """An answer for each path, in their order."""
    import torch

    from bittern.cli.images import read_image
    from bittern.data import normalize

    assert info.mean is not None
    assert info.std is not None
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        read, errors = {}, {}
        for path in batch:
            try:
                read[path] = read_image(path, shape, invert=invert)
            except (OSError, ValueError) as error:
                errors[path] = str(error)
        shares = {}
        if read:
            pixels = torch.stack([image.pixels for image in read.values()])
            rows = torch.softmax(network(normalize(pixels, info.mean, info.std)), dim=1)
            shares = dict(zip(read, rows, strict=True))
        for path in batch:
            if path in errors:
                yield Answer(path, (), (), errors[path])
                continue
            order = shares[path].argsort(descending=True, stable=True)[:top]
            best = tuple((names[int(i)], float(shares[path][i])) for i in order)
            yield Answer(path, best, read[path].changes, None)


def _print(answer: Answer, width: int, as_json: bool) -> None:
    from bittern.cli.screen import printable

    if answer.error is not None:
        typer.echo(f"bittern: {printable(answer.error)}", err=True)
    if as_json:
        found = [{"class": name, "probability": round(share, 6)} for name, share in answer.best]
        changes = [f"{change.what} ({change.was})" for change in answer.changes]
        told = {"error": answer.error} if answer.error is not None else {"answers": found, "changes": changes}
        typer.echo(json.dumps({"image": str(answer.path), **told}, ensure_ascii=False))
    elif answer.error is None:
        words = (f"{printable(name)} {share:.1%}" for name, share in answer.best)
        typer.echo("  ".join([f"{printable(str(answer.path)):{width}}", *words]))


def _tell_changes(answers: Sequence[Answer]) -> None:
    """One line for each kind of change, however many images it was done to."""
    from bittern.cli.screen import printable

    changed: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for answer in answers:
        for change in answer.changes:
            changed[change.what].append((answer.path, change.was))
    for what, cases in changed.items():
        path, was = cases[0]
        more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
        _note(f"{what}: {printable(str(path))} ({was}){more}")


def _note(text: str) -> None:
    typer.echo(f"note: {text}", err=True)
