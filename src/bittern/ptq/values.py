# SPDX-License-Identifier: Apache-2.0
"""Some values of a program, for all samples of some batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.interpreter import step_of
from bittern.deploy.kinds.results import RESULTS
from bittern.deploy.liveness import of_nodes, released_after
from bittern.deploy.program import Program

CPU = torch.device("cpu")


def values_of(
    program: Program, tensors: Mapping[str, Tensor], batches: Sequence[Sequence[Tensor]], wanted: Sequence[int]
) -> list[list[Any]]:
    """Each wanted value of each batch; what comes behind the last of them is not computed."""
    found: list[list[Any]] = [[] for _ in wanted]
    gone = released_after(of_nodes(program.nodes), program.output, len(program.inputs))
    for inputs in batches:
        values: dict[int, Any] = dict(enumerate(inputs))
        with torch.no_grad():
            for node, released in zip(program.nodes, gone, strict=True):
                if all(value in values for value in wanted):
                    break
                values[node.output] = step_of(node, tensors, CPU)(*(values[v] for v in node.inputs))
                for value in released:
                    if value not in wanted:
                        del values[value]
        for own, value in zip(found, wanted, strict=True):
            own.append(values[value])
    return found


def answers_of(program: Program) -> tuple[int, ...]:
    """The values that a program answers with."""
    last = program.producer(program.output)
    return last.inputs if last is not None and last.kind == RESULTS.name else (program.output,)
