# SPDX-License-Identifier: Apache-2.0
"""Groups that take in the affine node in front of theirs: each number goes through its map where it is read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from bittern.deploy.engine.groups.native import NativeGroup
from bittern.deploy.program import Node, Program


@dataclass(frozen=True)
class BehindAffine(NativeGroup):
    """One node, with the affine node in front of it if there is one."""

    node: Node
    before: Node | None = None

    @property
    def output(self) -> int:
        return self.node.output

    @property
    def nodes(self) -> tuple[int, ...]:
        return tuple(node.output for node in (self.before, self.node) if node is not None)

    @property
    def source(self) -> int:
        """Value number of what its first node reads."""
        return (self.before or self.node).inputs[0]

    @property
    def mapped(self) -> str:
        """What it does first, in words."""
        return "" if self.before is None else "scale, "


def affine_in_front(program: Program, node: Node, taken: Collection[int], value: int | None = None) -> Node | None:
    """The affine node that writes what one node alone reads, its first input or another, if no other group has it."""
    value = node.inputs[0] if value is None else value
    before = program.producer(value)
    if before is None or before.kind != "affine" or before.output in taken:
        return None
    return before if program.single_consumer(value) is node else None
