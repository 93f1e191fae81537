# SPDX-License-Identifier: Apache-2.0
"""What groups that run native at some batch sizes alone do at the others."""

from __future__ import annotations

from functools import cached_property

from bittern.deploy.engine.groups.group import AtBatch, Group, Material, Prepared
from bittern.deploy.program import Node


class Parts:
    """The groups to which one falls apart at some batch sizes; prepared when the first of those comes."""

    def __init__(self, groups: tuple[Group, ...], material: Material) -> None:
        self._groups = groups
        self._material = material

    @cached_property
    def _prepared(self) -> tuple[AtBatch, ...]:
        """Of the groups; two Python threads may both make it, to the same effect."""
        return tuple(group.prepare(self._material) for group in self._groups)

    def at(self, batch: int) -> tuple[Prepared, ...]:
        return tuple(part for prepared in self._prepared for part in prepared(batch))


def sizes_at(node: Node, material: Material, batch: int) -> tuple[int, ...]:
    """Of its input at a batch size."""
    return batch, *material.forms[node.inputs[0]].shape[1:]
