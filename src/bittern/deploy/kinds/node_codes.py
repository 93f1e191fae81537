# SPDX-License-Identifier: Apache-2.0
"""Which numbers the bits of a node stand for: the one place where a file's attributes become codes."""

from __future__ import annotations

from bittern.codes import Code, Integers, Signs, odd_integers, symmetric
from bittern.deploy.kinds.kind import integer
from bittern.deploy.program import Node

MOST_PLANES = 8
"""Planes of signs of one number."""


CODES = ("sign", "levels", "odd", "integers")
"""What the bits of inputs stand for: signs; levels 0 ... n; odd numbers -n ... n; -(n + 1) / 2 ... (n - 1) / 2.

Of k planes, n = 2^k - 1. All but signs are encoded from x in 0 ... 1, as the nearest of 2^k levels.
"""


def input_code(node: Node) -> Code:
    """Of what a node `encode` writes, or a node `binary` reads."""
    code = node.attrs["code"]
    if code == "sign":
        return Signs()
    planes = integer(node, "planes" if "planes" in node.attrs else "input_planes")
    top = 2**planes - 1
    if code == "odd":
        return odd_integers(planes)
    return Integers(0, top) if code == "levels" else Integers(-(top + 1) // 2, top // 2)


def has_levels(node: Node) -> bool:
    """Whether bits are made by rounding to a level, not by comparing with a threshold."""
    return node.attrs["code"] != "sign"


def weight_code(node: Node) -> Code:
    """Of the weight of a node `binary`: symmetric about 0, with `weight_levels` numbers, or 2^weight_planes."""
    given = node.attrs.get("weight_levels") is not None
    return symmetric(integer(node, "weight_levels") if given else 2 ** integer(node, "weight_planes"))


def padded_with(node: Node) -> int:
    """The value of padding in each plane of what a node `binary` reads: a level of 0 is a sign of -1."""
    return -1 if input_code(node).low == 0 else integer(node, "pad_value")


def halvings(node: Node) -> int:
    """How often the sum of a node `binary` over all planes, offset included, is halved to give its accumulator.

    Numbers of a code are step / 2 times a sum of signs (`codes`), and steps are 1 or 2.
    """
    return sum(code.step == 1 for code in (input_code(node), weight_code(node)))
