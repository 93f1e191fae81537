# SPDX-License-Identifier: Apache-2.0
"""From a packed model to one C99 file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from bittern._files import write_atomically
from bittern.deploy.c_export import literals, text
from bittern.deploy.c_export.plan import Step, plan, steps_of
from bittern.deploy.c_export.rules import RULES, in_place
from bittern.deploy.c_export.source import Source
from bittern.deploy.errors import ExportError, refused
from bittern.deploy.export_arguments import check_fixed, check_rows, decoded_model
from bittern.deploy.integer_ends import INTEGERS, read_end
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.packed import Packed
from bittern.deploy.shapes import forms_of


@dataclass(frozen=True)
class CExport:
    """A C file that was written, and what it will take of a microcontroller."""

    path: Path
    name: str
    """Prefix of the names of the file: `<name>_run`."""
    input_sizes: tuple[int, ...]
    """Numbers of one sample of each input."""
    output_size: int
    """Numbers of one answer."""
    constant_bytes: int
    """Flash for weights, thresholds and sizes of layers, with pointers of 4 bytes; the code comes on top."""
    arena_bytes: int
    """RAM for everything between input and output; the caller keeps these two, the stack takes some dozens of bytes."""
    input_types: tuple[str, ...] = ("real",)
    """"real" (float), "int8" (int8_t) or "uint8" (uint8_t), of each input."""
    output_type: str = "real"

    @property
    def input_size(self) -> int:
        """Numbers of one sample, of all inputs together."""
        return sum(self.input_sizes)

    def __str__(self) -> str:
        return (
            f"{self.path}: {text.signature(self.name, self.input_types, self.output_type)}, "
            f"{self.input_size} -> {self.output_size} numbers, "
            f"{self.constant_bytes:,} bytes of constants, {self.arena_bytes:,} bytes of arena"
        )


def to_c(packed: Packed, path: str | Path, name: str | None = None) -> CExport:
    """Write a packed model as one C99 file without dependencies, for one sample a call; each input is an argument.

    path: ends in .c. name: prefix of its names; None: that of the file.
    Every node but a sum of real numbers gives the very bits that it gives in `packed`; sums run in the order of the
    loops and differ within the rounding that docs/numerics.md derives.

    A network of integers alone becomes C without a float: int8_t or uint8_t in, int8_t out. Where `info` says what
    these stand for, macros do: real = <NAME>_INPUT_SCALE * (integer - <NAME>_INPUT_ZERO), and so for the output.

    Raises: ValueError for a path or a name that is none, and for a model on another device than the CPU; ExportError
    (a ValueError) naming the node that has no C code, or an input that is not float32, int8 or uint8 [batch, ...], and
    for a damaged scale or zero in `info`; OSError. Nothing is written then.
    """
    path = Path(path)
    check_fixed("to_c", packed)
    name = _checked_name(packed, path, name)
    packed = decoded_model(packed)
    program, steps = packed.program, _steps(packed)
    source = Source(forms_of(program, packed.tensors), packed.tensors)
    calls = [step for step in steps if not KINDS[step.node.kind].reshapes]
    parts = [text.Part(step, RULES[step.node.kind].emit(source, step)) for step in calls]
    memory = {step.writes: RULES[step.node.kind].needs(source, step) for step in calls}
    where = plan(program, steps, source.forms, memory, lambda step: in_place(source, step))
    if where.values[program.output].place == "input":
        source.headers.add("string.h")
    facts = text.Facts(
        name,
        packed.info.get("model", name),
        tuple(math.prod(given.shape) for given in packed.inputs),
        tuple(given.name for given in packed.inputs),
        tuple(source.forms[v].type for v in range(len(program.inputs))),
        math.prod(source.forms[program.output].shape),
        source.forms[program.output].type,
        source.constant_bytes,
        where.arena_bytes,
        _ends(packed, source.forms[0].type, source.forms[program.output].type),
    )
    write_atomically(path, text.file_text(facts, source, parts, where, program.output).encode("ascii"))
    sizes = facts.input_sizes, facts.output_size, facts.constant_bytes, facts.arena_bytes
    return CExport(path, name, *sizes, facts.input_types, facts.output_type)


def _ends(packed: Packed, input_type: str, output_type: str) -> tuple[tuple[str, float, int], ...]:
    """What the model says that integers of its one input and of its answer stand for. Raises: ExportError."""
    found = []
    for side, type_ in (("input", input_type), ("output", output_type)):
        if type_ in INTEGERS and (side == "output" or len(packed.inputs) == 1):
            try:
                end = read_end(packed.info, side)
            except ValueError as error:
                raise ExportError(f"to_c: {error}") from error
            found += [] if end is None else [(side, end.scale, end.zero)]
    return tuple(found)


def _checked_name(packed: Packed, path: Path, name: str | None) -> str:
    if packed.device.type != "cpu":
        raise ValueError(f"to_c: the packed model is on {packed.device}; move it first: packed.to('cpu')")
    if path.suffix != ".c":
        raise ValueError(f"to_c: the path must end in .c; got {str(path)!r}")
    chosen = path.stem if name is None else name
    if not literals.is_identifier(chosen):
        raise ValueError(
            f"to_c: name must be a C identifier that starts with a letter; got {chosen!r}; pass name='net' or the like"
        )
    return chosen


def _steps(packed: Packed) -> tuple[Step, ...]:
    """Raises: ExportError for a kind of node or an input that has no C code."""
    check_rows("to_c", "C code takes float32, int8 or uint8 [batch, ...]", packed, ("float32", "int8", "uint8"))
    steps = steps_of(packed.program)
    for step in steps:
        if step.node.kind not in RULES and not KINDS[step.node.kind].reshapes:
            raise refused("to_c", step.node, "has no C code; leave this layer out, or run the packed model in torch")
    return steps
