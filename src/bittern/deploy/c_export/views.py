# SPDX-License-Identifier: Apache-2.0
"""A value as four sizes and a step in memory for each: broadcasting, permuting, slicing and padding are all that."""

from __future__ import annotations

from collections.abc import Sequence

from bittern.deploy.errors import refused
from bittern.deploy.program import Node

RANK = 4
"""Dimensions of a value beside the batch."""

Steps = tuple[int, ...]


def four(node: Node, numbers: Sequence[int], fill: int) -> list[int]:
    """Numbers of the dimensions behind the batch, filled up in front. Raises: ExportError."""
    if len(numbers) > RANK:
        raise refused("to_c", node, f"has {len(numbers)} dimensions beside the batch; the C code has {RANK}")
    return [fill] * (RANK - len(numbers)) + list(numbers)


def steps_of(shape: Sequence[int]) -> list[int]:
    """Steps in memory of a contiguous value, the last dimension fastest."""
    steps, step = [], 1
    for size in reversed(shape):
        steps.append(step)
        step *= size
    return steps[::-1]


def broadcast_steps(shape: Sequence[int], to: Sequence[int]) -> list[int]:
    """Steps of a value that is read as if it had the shape `to`: 0 where it repeats itself."""
    own = [1] * (len(to) - len(shape)) + list(shape)
    return [0 if size == 1 else step for size, step in zip(own, steps_of(own), strict=True)]
