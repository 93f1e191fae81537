# SPDX-License-Identifier: Apache-2.0
"""What of a program is compared between a `.pte` and the packed model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from bittern.deploy.executorch.lowering import CPU, LOWERINGS
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


def check_program(
    program: Program, parts: Sequence[Part], batch: Tensor, logits: Tensor, values: list[Tensor]
) -> RuntimeReport:
    """Compare what a `.pte` gave for `batch`, its logits and then the values of `watched`, with the packed model.

    values: one tensor a value, or one a bit plane.
    """
    rest = iter(values)
    given: dict[int, Value] = {0: batch, program.output: logits}
    for v in watched(program, parts):
        planes = bit_planes(program, v)
        given[v] = tuple(next(rest) for _ in range(planes)) if planes else next(rest)
    return compare(program, parts, given)
