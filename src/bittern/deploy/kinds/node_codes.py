# SPDX-License-Identifier: Apache-2.0
"""Which numbers the bits of a node stand for: the one place where a file's attributes become codes."""

from __future__ import annotations

from bittern.codes import Code, Integers, Signs, symmetric
from bittern.deploy.kinds.kind import integer
from bittern.deploy.program import Node

MOST_PLANES = 8
"""Planes of signs of one number."""


def input_code(node: Node) -> Code:
    """Of what a node `encode` writes, or a node `binary` reads."""
    if node.attrs["code"] == "sign":
        return Signs()
    planes = integer(node, "planes" if "planes" in node.attrs else "input_planes")
    return Integers(0, 2**planes - 1)


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
