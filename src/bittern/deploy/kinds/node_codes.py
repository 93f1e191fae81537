# SPDX-License-Identifier: Apache-2.0
"""Which numbers the bits of a node stand for: the one place where a file's attributes become codes."""

from __future__ import annotations

from bittern.codes import Code, Integers, Signs, odd_integers, symmetric
from bittern.deploy.errors import FormatError
from bittern.deploy.kinds.kind import integer
from bittern.deploy.program import Node

MOST_PLANES = 8
"""Planes of signs of one number."""


CODES = ("sign", "levels", "odd", "integers")
"""What the bits of inputs stand for: signs; levels 0 ... n; odd numbers -n ... n; levels less the one that is 0.

Of k planes, n = 2^k - 1. All but signs are encoded from x in 0 ... 1, as the nearest of 2^k levels. Which level of
integers is 0 says `zero_level`, without which they are -(n + 1) / 2 ... (n - 1) / 2.
"""

FARTHEST = 2**MOST_PLANES - 1
"""No number of a code is farther from 0."""


def input_code(node: Node) -> Code:
    """Of what a node `encode` writes, or a node `binary` reads."""
    code = node.attrs["code"]
    if code == "sign":
        return Signs()
    planes = integer(node, "planes" if "planes" in node.attrs else "input_planes")
    top = 2**planes - 1
    if code == "odd":
        return odd_integers(planes)
    given = code == "integers" and node.attrs.get("zero_level") is not None
    zero = integer(node, "zero_level") if given else (top + 1) // 2 if code == "integers" else 0
    return Integers(-zero, top - zero)


def check_zero_level(node: Node) -> None:
    """Refuse a level of 0 of other codes, or that there is none of. Raises: FormatError."""
    if node.attrs.get("zero_level") is None:
        return
    planes = integer(node, "planes" if "planes" in node.attrs else "input_planes")
    if node.attrs["code"] != "integers" or integer(node, "zero_level") >= 2**planes:
        raise FormatError(f"node {node.name!r} ({node.kind}): zero_level must be one of the levels of integers")


def has_levels(node: Node) -> bool:
    """Whether bits are made by rounding to a level, not by comparing with a threshold."""
    return node.attrs["code"] != "sign"


def weight_code(node: Node) -> Code:
    """Of the weight of a node `binary`: `weight_levels` numbers, or 2^weight_planes, symmetric about 0.

    Or from `weight_low` on, where that is given.
    """
    given = node.attrs.get("weight_levels") is not None
    levels = integer(node, "weight_levels") if given else 2 ** integer(node, "weight_planes")
    if node.attrs.get("weight_low") is None:
        return symmetric(levels)
    low = integer(node, "weight_low")
    return Integers(low, low + levels - 1)


def weight_factors(node: Node) -> tuple[int, ...]:
    """Of each plane of signs that a weight is multiplied as; the last, of numbers not about 0, is a plane of ones.

    A number from low to high is (sum_i g_i W_i + (low + high) * 1) / 2, and that 1 a plane like the others: its product
    is the sum over what a window sees of the input, padding left out.
    """
    code = weight_code(node)
    return (*code.plane_factors, code.low + code.high) if has_middle(node) else code.plane_factors


def has_middle(node: Node) -> bool:
    """Whether the numbers of a weight lie about another than 0."""
    return node.attrs.get("weight_low") is not None


def check_weight_code(node: Node) -> None:
    """Refuse planes that are not those of a code, and numbers not about 0 that do not hold it. Raises: FormatError."""
    code = weight_code(node)
    if code.bits != integer(node, "weight_planes"):
        raise FormatError(f"node {node.name!r} ({node.kind}): {code.levels} levels take {code.bits} planes of weights")
    if has_middle(node) and (code.redundant or 0 not in code.values):
        raise FormatError(
            f"node {node.name!r} ({node.kind}): weights from weight_low on are as many as their planes spell, and 0 is "
            f"one of them; got {code.low} ... {code.high}"
        )


def paddings(node: Node) -> tuple[int, ...]:
    """The value of padding in each plane of what a node `binary` reads: those of the level that is 0."""
    code = input_code(node)
    if node.attrs["code"] in ("levels", "integers"):
        return tuple(1 if -code.low >> j & 1 else -1 for j in range(code.bits))
    return (integer(node, "pad_value"),) * code.bits


def halvings(node: Node) -> int:
    """How often the sum of a node `binary` over all planes, offset included, is halved to give its accumulator.

    Numbers of a code are step / 2 times a sum of signs (`codes`), and steps are 1 or 2.
    """
    return sum(code.step == 1 for code in (input_code(node), weight_code(node)))
