# SPDX-License-Identifier: Apache-2.0
"""`bittern info`: what is in a packed file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bittern.cli import sizes
from bittern.cli.errors import Misused

if TYPE_CHECKING:
    from rich.table import Table

    from bittern.deploy import Packed
    from bittern.deploy.program import Input, Node


LOW_BIT = ("binary", "decoded", "multibit_linear")
"""Kinds of nodes whose weights lie in planes of bits."""
INTEGERS = ("integer_conv", "integer_linear")
"""Kinds of nodes whose weights are int8."""


def info(
    file: Annotated[Path, typer.Argument(help="A packed file, or a .tflite network of int8.")],
    plan: Annotated[bool, typer.Option("--plan", help="Show the program as it runs, with times.")] = False,
    no_time: Annotated[bool, typer.Option("--no-time", help="With --plan: run nothing.")] = False,
    size: Annotated[list[str] | None, typer.Option(help=f"With --plan. {sizes.SIZE_HELP}")] = None,
) -> None:
    """Show what is in a packed file."""
    from bittern.cli.plan import plan as plan_of
    from bittern.cli.screen import printable, screen
    from bittern.cli.targets import load_packed

    if no_time and not plan:
        raise Misused("--no-time says how to show the plan; give --plan too")
    if size and not plan:
        raise Misused("--size says at which sizes to show the plan; give --plan too")

    packed = load_packed(file)
    bits, integers, others = _values(packed)
    typer.echo(f"{file}: takes {_inputs(packed)}, {len(packed.program.nodes)} steps")
    share = bits / max(bits + integers + others, 1)
    bytes_ = f", {integers:,} weights of 8 bits" if integers else ""
    typer.echo(f"{bits:,} one-bit weights{bytes_} and {others:,} other numbers: {share:.1%} have one bit\n")
    screen().print(_parts(packed, file.stat().st_size))
    for own in packed.sizes:
        limits = f"from {own.least}" if own.most is None else f"{own.least} ... {own.most}"
        typer.echo(f"\n{own.name} is chosen by each call: {limits}")
    typer.echo("\nnotes")
    for key, text in sorted(packed.info.items()):
        typer.echo(f"  {printable(key)}: {printable(text)}")
    if plan:
        wanted = size or [f"{own.name}={own.example}" for own in packed.sizes]
        table, sums = plan_of(sizes.at(file, packed, wanted), timed=not no_time)
        typer.echo(", ".join(["\nplan", *wanted]))
        screen().print(table)
        typer.echo(f"\n{sums}")


def _inputs(packed: Packed) -> str:
    """What it takes: a shape, or name, shape, type and place of the batch of each input."""
    if packed.takes_one_tensor:
        return " x ".join(str(n) for n in packed.inputs[0].sizes)
    return "; ".join(_input(given) for given in packed.inputs)


def _input(given: Input) -> str:
    from bittern.cli.screen import printable

    sizes = " x ".join(str(n) for n in given.sizes) or "one number"
    batch = {0: "", None: ", the same for all samples"}.get(given.batch, f", batch in dimension {given.batch}")
    return f"{printable(given.name)} {sizes} {given.type}{batch}"


def _values(packed: Packed) -> tuple[int, int, int]:
    """(one-bit weights, weights of 8 bits, all other stored numbers)."""
    bits = integers = 0
    weights: set[str] = set()
    for node in packed.program.nodes:
        if node.kind in (*LOW_BIT, *INTEGERS) and node.tensors["weight"] not in weights:
            weights.add(node.tensors["weight"])
            bits += _weight_bits(node) if node.kind in LOW_BIT else 0
            integers += packed.tensors[node.tensors["weight"]].numel() if node.kind in INTEGERS else 0
    return bits, integers, sum(tensor.numel() for name, tensor in packed.tensors.items() if name not in weights)


def _weight_bits(node: Node) -> int:
    from math import prod

    from bittern.deploy.kinds.decoded import code_of
    from bittern.deploy.kinds.kind import integer, integers

    planes = code_of(node).bits if node.kind == "decoded" else integer(node, "weight_planes")
    numbers = integer(node, "channels") * integer(node, "out_channels") * planes
    if node.kind == "multibit_linear":
        return numbers
    return numbers // integer(node, "groups") * prod(integers(node, "kernel"))


def _parts(packed: Packed, size: int) -> Table:
    """Bytes of the file by what they hold."""
    from bittern.cli.screen import plain_table
    from bittern.deploy.kinds.table import KINDS

    parts = {"weights of low-bit layers": 0, "scales of low-bit layers": 0, "everything else that is learned": 0}
    first, second, third = parts
    seen: set[str] = set()
    for node in packed.program.nodes:
        for role, name in node.tensors.items():
            if name not in seen:
                seen.add(name)
                low_bit = KINDS[node.kind].low_bit or (node.kind in LOW_BIT and role == "scale")
                weight = role == "weight" and node.kind in (*LOW_BIT, *INTEGERS)
                part = first if weight else second if low_bit else third
                parts[part] += packed.tensors[name].numel() * packed.tensors[name].element_size()
    parts["program and header"] = size - sum(parts.values())
    table = plain_table("part", "bytes", "share", right=("bytes", "share"))
    for part, count in parts.items():
        table.add_row(part, f"{count:,}", f"{count / size:.1%}")
    table.add_row("file", f"{size:,}", "")
    return table
