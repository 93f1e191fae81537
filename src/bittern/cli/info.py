"""`bittern info`: what is in a packed file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from bittern.deploy import Packed
    from bittern.deploy.program import Node

LONGEST = 400
"""Characters of a text from the file that are shown."""


def info(
    file: Annotated[Path, typer.Argument(help="A packed file.")],
    plan: Annotated[bool, typer.Option("--plan", help="List every step of the program.")] = False,
) -> None:
    """Show what is in a packed file."""
    from bittern.cli.screen import screen
    from bittern.cli.targets import load_packed

    packed = load_packed(file)
    shape = " x ".join(str(n) for n in packed.input_shape)
    bits, floats = _values(packed)
    typer.echo(f"{file}: takes {shape}, {len(packed.program.nodes)} steps")
    typer.echo(
        f"{bits:,} one-bit weights and {floats:,} other numbers: {bits / max(bits + floats, 1):.1%} have one bit\n"
    )
    screen().print(_parts(packed, file.stat().st_size))
    typer.echo("\nnotes")
    for key, text in sorted(packed.info.items()):
        typer.echo(f"  {_printable(key)}: {_printable(text)}")
    if plan:
        typer.echo("\nplan")
        screen().print(_plan(packed))


def _values(packed: Packed) -> tuple[int, int]:
    """(one-bit weights, all other stored numbers)."""
    bits = floats = 0
    weights: set[str] = set()
    for node in packed.program.nodes:
        if node.kind == "binary" and node.tensors["weight"] not in weights:
            weights.add(node.tensors["weight"])
            bits += _weight_bits(node)
    floats = sum(tensor.numel() for name, tensor in packed.tensors.items() if name not in weights)
    return bits, floats


def _weight_bits(node: Node) -> int:
    from math import prod

    from bittern.deploy.kinds import integer, integers

    per_group = integer(node, "channels") // integer(node, "groups")
    fan_in = per_group * prod(integers(node, "kernel"))
    return fan_in * integer(node, "out_channels") * integer(node, "weight_planes")


def _parts(packed: Packed, size: int) -> Table:
    """Bytes of the file by what they hold."""
    from bittern.cli.screen import plain_table

    parts = {"weights of low-bit layers": 0, "scales of low-bit layers": 0, "everything else that is learned": 0}
    first, second, third = parts
    seen: set[str] = set()
    for node in packed.program.nodes:
        for role, name in node.tensors.items():
            if name not in seen:
                seen.add(name)
                low_bit = node.kind in ("binary", "encode", "threshold")
                part = first if node.kind == "binary" and role == "weight" else second if low_bit else third
                parts[part] += packed.tensors[name].numel() * packed.tensors[name].element_size()
    parts["program and header"] = size - sum(parts.values())
    table = plain_table("part", "bytes", "share", right=("bytes", "share"))
    for part, count in parts.items():
        table.add_row(part, f"{count:,}", f"{count / size:.1%}")
    table.add_row("file", f"{size:,}", "")
    return table


def _plan(packed: Packed) -> Table:
    from rich.text import Text

    from bittern.cli.screen import plain_table

    table = plain_table(
        "value", "step", "layer", "of", "options", "bytes", right=("value", "bytes"), whole=("value", "bytes")
    )
    for node in packed.program.nodes:
        count = sum(
            packed.tensors[name].numel() * packed.tensors[name].element_size() for name in node.tensors.values()
        )
        options = " ".join(f"{key}={value}" for key, value in node.attrs.items())
        sources = ", ".join(str(value) for value in node.inputs)
        cells = (str(node.output), node.kind, node.name, sources, options, f"{count:,}" if count else "")
        table.add_row(*(Text(_printable(cell)) for cell in cells))
    return table


def _printable(text: str) -> str:
    """Without what could move a terminal's cursor, and not without end: a packed file may come from anywhere."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."
