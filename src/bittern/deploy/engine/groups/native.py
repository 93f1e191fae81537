# SPDX-License-Identifier: Apache-2.0
"""What groups of one native step have in common."""

from __future__ import annotations

from collections.abc import Mapping

from bittern.deploy.engine.groups.group import Group
from bittern.deploy.program import Node


class NativeGroup(Group):
    """A group by a native step of its own: no product of bits, no memory but its own."""

    @property
    def how(self) -> str:
        return "native"

    @property
    def view(self) -> bool:
        return False

    @property
    def in_place(self) -> int | None:
        return None

    @property
    def borders(self) -> Mapping[int, int | None]:
        return {}

    @property
    def product(self) -> Node | None:
        return None
