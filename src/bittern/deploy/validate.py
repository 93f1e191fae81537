# SPDX-License-Identifier: Apache-2.0
"""Checking a whole program before anything is allocated for it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from bittern.deploy.budget import check_memory
from bittern.deploy.errors import FormatError
from bittern.deploy.kinds.aten import ATEN, PART
from bittern.deploy.kinds.aten_call import check_orders
from bittern.deploy.kinds.kind import check_node
from bittern.deploy.kinds.results import RESULTS
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.named_sizes import at_example, check_names
from bittern.deploy.program import Program
from bittern.deploy.shapes import forms_of


def check_program(program: Program, tensors: Mapping[str, Tensor], memory_limit: float = math.inf) -> None:
    """Refuse a program that is not well formed, whose values do not fit together, or that takes more memory than that.

    One whose sizes a call chooses is looked at with those of its example. Nothing is computed, and the time that it
    takes is in proportion to the program. Raises: FormatError.
    """
    if program.sizes:
        check_names(program)
        program = at_example(program)
    known = set(range(len(program.inputs)))
    by_torch: set[int] = set()
    for node in program.nodes:
        kind = KINDS.get(node.kind)
        if kind is None:
            raise FormatError(f"node {node.name!r}: unknown kind {node.kind!r}; the file needs a newer bittern")
        if not node.inputs or any(v not in known for v in node.inputs) or node.output in known:
            raise FormatError(f"node {node.name!r} ({node.kind}): reads or writes values out of order")
        check_node(kind, node, tensors)
        if kind is ATEN:
            check_orders(node, by_torch)
        if kind in (ATEN, PART):
            by_torch.add(node.output)
        known.add(node.output)
    if program.output not in known:
        raise FormatError(f"the result, value {program.output}, is computed by no node")
    forms = forms_of(program, tensors)
    result = forms[program.output]
    several = result.type == RESULTS.name
    if not several and (result.type not in ("real", "int8") or not result.samples_first):
        raise FormatError(
            f"the result must be a real or int8 tensor [batch, ...]; it is {result.type} {list(result.shape)}"
        )
    if any(node.kind == RESULTS.name for node in program.nodes[: -1 if several else None]):
        raise FormatError("results must be the last node of a program, and its result")
    check_memory(program, tensors, forms, memory_limit)
