# SPDX-License-Identifier: Apache-2.0
"""Running a program node by node, on any device: one call per node, nothing fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.kinds.kind import Step
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.liveness import of_nodes, released_after
from bittern.deploy.plain import untracked
from bittern.deploy.program import Node, Program


class Interpreter:
    """A program on one device. Call with its inputs, one after another -> what it answers."""

    def __init__(self, program: Program, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self.program = program
        self._tensors, self._device = tensors, device
        self.steps = [step_of(node, tensors, device) for node in program.nodes]
        """What each node computes, in the order of the program."""
        self._released = released_after(of_nodes(program.nodes), program.output, len(program.inputs))

    def __call__(self, *inputs: Tensor) -> Any:
        return untracked(self._run, inputs, None)

    def accumulators(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Integer accumulators of every low-bit layer, by name."""
        found: dict[str, Tensor] = {}
        self._run(inputs, found)
        return found

    def _run(self, inputs: Sequence[Tensor], accumulators: dict[str, Tensor] | None) -> Any:
        values: dict[int, Any] = dict(enumerate(inputs))
        for node, step, released in zip(self.program.nodes, self.steps, self._released, strict=True):
            read = [values[v] for v in node.inputs]
            count = KINDS[node.kind].accumulators
            if accumulators is not None and count is not None:
                accumulators |= count(node, node.named(self._tensors), self._device)(read[0])
            values[node.output] = step(*read)
            for v in released:
                del values[v]
        return values[self.program.output]


def step_of(node: Node, tensors: Mapping[str, Tensor], device: torch.device) -> Step:
    """What a node computes, by itself, on one device."""
    return KINDS[node.kind].build(node, node.named(tensors), device)
