# SPDX-License-Identifier: Apache-2.0
"""Where the residual of a block comes from: through means over windows, doubled channels and channels of zeros."""

from __future__ import annotations

from bittern.deploy.engine.groups.block import NO_RULE
from bittern.deploy.kinds.kind import integers
from bittern.deploy.program import Node, Program
from bittern.ops import ResidualRule


def trace_residual(program: Program, value: int, reader: Node) -> tuple[int, ResidualRule, tuple[int, ...]]:
    """(source, rule, nodes in between that the rule replaces) of one side of an addition."""
    rule = NO_RULE
    arranging: list[int] = []
    while program.single_consumer(value) is reader:
        node = program.producer(value)
        changed = None if node is None else _arranged(node, rule)
        if node is None or changed is None:
            break
        rule, value, reader = changed, node.inputs[0], node
        arranging.append(node.output)
    return value, rule, tuple(arranging)


def _arranged(node: Node, rule: ResidualRule) -> ResidualRule | None:
    """The rule with a node in front of it, or None where a rule cannot say what the node does."""
    if node.kind == "pool" and node.attrs["mode"] == "average" and rule.pool == 1:
        kernel, stride, padding = (integers(node, key) for key in ("kernel", "stride", "padding"))
        square = len(kernel) == 2 and kernel[0] == kernel[1] and stride == kernel and padding == [0, 0]
        return rule._replace(pool=kernel[0]) if square else None
    plain = not rule.repeats and rule.shift == 0
    if node.kind == "concatenate" and plain and len(set(node.inputs)) == 1 and node.attrs["dim"] == 1:
        return rule._replace(repeats=True)
    if node.kind == "pad" and plain and node.attrs["value"] == 0.0:
        amount = integers(node, "amount")
        if len(amount) == 6 and not any(amount[:4]) and min(amount) >= 0:
            return rule._replace(shift=amount[4])
    return None
