# SPDX-License-Identifier: Apache-2.0
"""What groups of one native step have in common."""

from __future__ import annotations

from bittern.deploy.engine.groups.group import OwnMemory
from bittern.deploy.program import Node


class NativeGroup(OwnMemory):
    """A group by a native step of its own, without a product of bits."""

    @property
    def how(self) -> str:
        return "native"

    @property
    def view(self) -> bool:
        return False

    @property
    def product(self) -> Node | None:
        return None


class BitsGroup(NativeGroup):
    """One that writes bits."""

    @property
    def real(self) -> int | None:
        return None

    @property
    def bits(self) -> int | None:
        return self.output


class IntegerGroup(NativeGroup):
    """One that writes an int8 value."""

    @property
    def real(self) -> int | None:
        return None

    @property
    def bits(self) -> int | None:
        return None

    @property
    def integers(self) -> int | None:
        return self.output


class RealGroup(NativeGroup):
    """One that writes a real value."""

    @property
    def real(self) -> int | None:
        return self.output

    @property
    def bits(self) -> int | None:
        return None
