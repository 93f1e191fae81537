# SPDX-License-Identifier: Apache-2.0
"""`bittern export`: a packed network as a program for another runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bittern.cli import names, sizes
from bittern.cli.errors import Misused, unknown

if TYPE_CHECKING:
    from torch import Tensor

    from bittern.deploy import Packed

COMPARED_IMAGES = 8
"""Test images on which a program is compared with the packed network."""


@dataclass(frozen=True)
class Wish:
    """What the command line says beside the two files; None: nothing."""

    name: str | None
    data: str | None
    verify: bool | None


def export(
    file: Annotated[Path, typer.Argument(help="A packed file; for gfpq a run folder or a checkpoint.")],
    output: Annotated[Path, typer.Argument(help="The program to write: NAME.c, NAME.pte or NAME.onnx.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="c: one C99 file for microcontrollers (docs/c_export.md); executorch: a .pte file (docs/edge.md); "
            "onnx: a file of standard ONNX, qonnx: one with nodes of few bits, for FPGAs (docs/onnx.md); "
            "gfpq: the clips of a network trained with GFPQ, as JSON. "
            "[default: by the end of OUTPUT, .c, .pte or .onnx]",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="c: prefix of the names in the file. [default: the name of the file]")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help=f"all but c: to compare on: {names.DATA_HELP} [default: random images]"),
    ] = None,
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify",
            help="all but c: run the program and compare it first. [default: verify]",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(help=f"{sizes.SIZE_HELP} [default: ONNX leaves them to each call, too; others need them]"),
    ] = None,
) -> None:
    """Write a packed network as a program for another runtime."""
    from bittern.cli.screen import say, screen
    from bittern.cli.targets import load_packed

    if to is not None and to.lower() == CLIPS:
        if size or any(given is not None for given in (name, data, verify)):
            raise Misused(f"--to {to} writes numbers that the training found, and takes no other option; leave it out")
        say(_clips(file, output))
        return
    target = _target(output, to)
    if output.resolve() == file.resolve():
        raise Misused(f"{output} is the packed file itself; name another one")
    make, options = TARGETS[target]
    wish = Wish(name, data, verify)
    for option in ("name", "data", "verify"):
        if getattr(wish, option) is not None and option not in options:
            raise Misused(f"--{option} means nothing for a program for {target}; leave it out")
    if data is not None and verify is False:
        raise Misused("--data says what to compare on, and --no-verify compares nothing; leave out one of them")
    packed = load_packed(file)
    if size or target not in OPEN:
        packed = sizes.at(file, packed, size or ())
    with screen(stderr=True).status("writing" if verify is False else "writing and comparing"):
        said = make(file, packed, output, wish)
    say(said)


def _target(output: Path, to: str | None) -> str:
    """What to write, by --to or by the end of the output's name. Raises: Misused where they contradict each other."""
    suffix = output.suffix.lower()
    if to is None:
        by_name = [target for target, own in SUFFIXES.items() if own == suffix]
        if not by_name:
            wanted = [f"{output.stem}{own}" for own in dict.fromkeys(SUFFIXES.values())]
            raise Misused(f"cannot tell from {output} what to write; name it {', '.join(wanted[:-1])} or {wanted[-1]}")
        return by_name[0]
    if to.lower() not in TARGETS:
        raise unknown("target", to, (*TARGETS, CLIPS))
    if suffix in SUFFIXES.values() and suffix != SUFFIXES[to.lower()]:
        raise Misused(f"--to {to} writes no {output.suffix} file, and {output} is named like one; change one of them")
    return to.lower()


def _clips(target: Path, output: Path) -> str:
    """Writes the table of GFPQ. Raises: FileNotFoundError, ValueError."""
    from bittern import quant
    from bittern.cli import run_folder

    _, network = run_folder.trained(target)
    quant.write_gfpq_table(network, output)
    return f"{output}: the clips of {len(quant.gfpq_table(network))} layers"


def _to_c(file: Path, packed: Packed, output: Path, wish: Wish) -> str:
    from bittern import deploy

    return str(deploy.to_c(packed, output, wish.name))


def _to_executorch(file: Path, packed: Packed, output: Path, wish: Wish) -> str:
    from bittern import deploy

    example = None if wish.data is None else _images(file, packed, wish.data)
    report = deploy.to_executorch(packed, output, example=example, verify=wish.verify is not False)
    return f"{output}: {output.stat().st_size:,} bytes\n{'not compared' if report is None else report}"


def _to_onnx(file: Path, packed: Packed, output: Path, wish: Wish, low_bit: str) -> str:
    from bittern.deploy import onnx

    example = None if wish.data is None else _images(file, packed, wish.data)
    dialect = onnx.QONNX if low_bit == "qonnx" else onnx.ARITHMETIC
    report = onnx.to_onnx(packed, output, example=example, low_bit=dialect, verify=wish.verify is not False)
    return f"{output}: {output.stat().st_size:,} bytes\n{'not compared' if report is None else report}"


def _images(file: Path, packed: Packed, data: str) -> Tensor:
    from bittern.cli.targets import need, packed_info
    from bittern.data import normalize

    info = packed_info(file, packed)
    need(file, info, ("mean", "std"), ())
    assert info.mean is not None
    assert info.std is not None
    images = names.data_set(names.data_spec(data))
    return normalize(images.first_test_images(COMPARED_IMAGES), info.mean, info.std)


CLIPS = "gfpq"
"""What --to takes beside `TARGETS`: no program, but a table of a network that is not packed."""
SUFFIXES = {"c": ".c", "executorch": ".pte", "onnx": ".onnx", "qonnx": ".onnx"}
"""How the files of a target are named; the first target of a name is meant where --to says nothing."""
TARGETS: dict[str, tuple[Callable[[Path, Packed, Path, Wish], str], tuple[str, ...]]] = {
    "c": (_to_c, ("name",)),
    "executorch": (_to_executorch, ("data", "verify")),
    "onnx": (partial(_to_onnx, low_bit="onnx"), ("data", "verify")),
    "qonnx": (partial(_to_onnx, low_bit="qonnx"), ("data", "verify")),
}
"""What --to takes: a function (file, packed, output, wish) -> what to print, and the options that it reads."""
OPEN = ("onnx", "qonnx")
"""Targets of which a program leaves sizes to each call, as the packed file does, unless --size chooses."""
