# SPDX-License-Identifier: Apache-2.0
"""In which order a row product adds."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

MOST_SUMS = 16
"""Sums of a tree that are held at once (kMostSums)."""


class TreePart(IntEnum):
    """What a part of a tree does to the sums that are held, by the number that native code knows."""

    START = 0
    """A new sum is held: of so many products, added one by one."""
    EXTEND = 1
    """So many products are added to the sum that is held last, one by one."""
    ADD = 2
    """The two sums that are held last become one, their sum."""
    BIAS = 3
    """The bias is held as a new sum."""


class SumTree(NamedTuple):
    """The order in which a row product adds its products and its bias, by which alone its bits differ.

    Any tree of sums can be said: vectors of lanes side by side, several accumulators, blocks of products, in whatever
    order they are joined.
    """

    parts: tuple[tuple[TreePart, int], ...]
    """What is done, in order, with the number of products that it takes; one sum is left."""
    products: tuple[int, ...]
    """The products in the order in which the parts take them."""
    fused: bool = True
    """Whether a product is added by an fma; else it is rounded first."""

    @property
    def has_bias(self) -> bool:
        return any(part == TreePart.BIAS for part, _ in self.parts)

    @property
    def most_held(self) -> int:
        """Sums that are held at once."""
        held = most = 0
        for part, _ in self.parts:
            held += {TreePart.EXTEND: 0, TreePart.ADD: -1}.get(part, 1)
            most = max(most, held)
        return most


def chain(features: int, bias: bool) -> SumTree:
    """The products one by one, the bias last."""
    last = ((TreePart.BIAS, 0), (TreePart.ADD, 0)) if bias else ()
    return SumTree(((TreePart.START, features), *last), tuple(range(features)))
