# SPDX-License-Identifier: Apache-2.0
"""After which step a value is read no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bittern.deploy.program import Node

Access = tuple[Iterable[int], Iterable[int]]
"""The numbers of the values that a step reads, and of those that it writes."""


def of_nodes(nodes: Iterable[Node]) -> list[Access]:
    """What nodes read and write."""
    return [(node.inputs, (node.output,)) for node in nodes]


def released_after(steps: Sequence[Access], result: int, inputs: int) -> list[tuple[int, ...]]:
    """For each step, the values that nothing reads any more after it, the inputs among them; never the result.

    inputs: how many there are; they are the first values.
    """
    last = dict.fromkeys(range(inputs), 0)
    for index, (reads, writes) in enumerate(steps):
        last.update(dict.fromkeys((*writes, *reads), index))
    released: list[list[int]] = [[] for _ in steps]
    for value, index in last.items():
        if value != result and steps:
            released[index].append(value)
    return [tuple(values) for values in released]
