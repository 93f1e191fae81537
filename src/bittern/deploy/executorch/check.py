# SPDX-License-Identifier: Apache-2.0
"""What of a program is compared between a `.pte` and the packed model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from bittern.deploy.executorch.lowering import CPU, LOWERINGS
from bittern.deploy.kinds.results import RESULTS
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.packed import Packed
from bittern.deploy.part_by_part import Part, RuntimeReport, Value, bit_planes, compare, watched
from bittern.deploy.program import Program

EdgeReport = RuntimeReport
"""What `to_executorch` found."""


def parts_of(packed: Packed, program: Program) -> tuple[Part, ...]:
    """A packed model's steps; program: its own, input scales split off."""
    return tuple(_parts(packed, program))


def _parts(packed: Packed, program: Program) -> Iterator[Part]:
    for node in program.nodes:
        tensors = node.named(packed.tensors)
        known = KINDS.get(node.kind)
        step = known.build(node, tensors, CPU) if known is not None else LOWERINGS[node.kind].call(node, tensors)
        yield Part(node, tensors, step, known is not None and known.low_bit)


def results_of(program: Program) -> int:
    """How many tensors a program answers."""
    last = program.producer(program.output)
    return 1 if last is None or last.kind != RESULTS.name else len(last.inputs)


def check_program(
    program: Program, parts: Sequence[Part], inputs: Sequence[Tensor], values: Sequence[Tensor]
) -> RuntimeReport:
    """Compare what a `.pte` gave for its inputs, the results and then the values of `watched`, with the packed model.

    values: one tensor a value, or one a bit plane.
    """
    results = results_of(program)
    rest = iter(values)
    answer = tuple(next(rest) for _ in range(results))
    given: dict[int, Value] = {**dict(enumerate(inputs)), program.output: answer[0] if results == 1 else answer}
    for v in watched(program, parts):
        planes = bit_planes(program, v)
        given[v] = tuple(next(rest) for _ in range(planes)) if planes else next(rest)
    return compare(program, parts, given)
