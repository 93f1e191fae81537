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
INTEGERS = ("integer_conv", "integer_linear", "integer_transposed_conv")
"""Kinds of nodes whose weights are integers of 2 to 8 bits."""


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
    share = bits / max(bits + sum(integers.values()) + others, 1)
    whole = "".join(f", {count:,} weights of {width} bits" for width, count in sorted(integers.items()))
    typer.echo(f"{bits:,} one-bit weights{whole} and {others:,} other numbers: {share:.1%} have one bit\n")
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


def _values(packed: Packed) -> tuple[int, dict[int, int], int]:
    """(one-bit weights, how many integers of each number of bits are weights, all other stored numbers)."""
    from bittern.deploy.few_bits import widths

    few, bits, integers = widths(packed.program), 0, dict[int, int]()
    weights: set[str] = set()
    for node in packed.program.nodes:
        if node.kind in (*LOW_BIT, *INTEGERS) and node.tensors["weight"] not in weights:
            name = node.tensors["weight"]
            weights.add(name)
            if node.kind in LOW_BIT:
                bits += _weight_bits(node)
            else:
                width = few.get(name, 8)
                integers[width] = integers.get(width, 0) + packed.tensors[name].numel()
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
    from bittern.deploy.few_bits import stored_bytes
    from bittern.deploy.kinds.table import KINDS

    stored = stored_bytes(packed.program, packed.tensors)
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
                parts[part] += stored[name]
    parts["program and header"] = size - sum(parts.values())
    table = plain_table("part", "bytes", "share", right=("bytes", "share"))
    for part, count in parts.items():
        table.add_row(part, f"{count:,}", f"{count / size:.1%}")
    table.add_row("file", f"{size:,}", "")
    return table
