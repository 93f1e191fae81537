# SPDX-License-Identifier: Apache-2.0
"""Checking a whole program before anything is allocated for it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from bittern.deploy.aten import ATEN, PART
from bittern.deploy.binary_kinds import BINARY
from bittern.deploy.bit_kinds import BIT_KINDS
from bittern.deploy.budget import check_memory
from bittern.deploy.form import Form, input_form
from bittern.deploy.forms import RULES
from bittern.deploy.kinds import FormatError, Kind, check_node
from bittern.deploy.layout_kinds import LAYOUT_KINDS
from bittern.deploy.program import Program
from bittern.deploy.real_kinds import REAL_KINDS
from bittern.deploy.results import RESULTS

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (*BIT_KINDS, BINARY, *REAL_KINDS, *LAYOUT_KINDS, ATEN, PART, RESULTS)
}
"""Every kind of node, by the name that a file uses."""

MAX_ELEMENTS = 2**31
"""A program whose values grow beyond this for one sample is refused."""


def check_program(program: Program, tensors: Mapping[str, Tensor], memory_limit: float = math.inf) -> None:
    """Refuse a program that is not well formed, whose values do not fit together, or that takes more memory than that.

    Nothing is computed, and the time that it takes is in proportion to the program. Raises: FormatError.
    """
    known = {0}
    for node in program.nodes:
        kind = KINDS.get(node.kind)
        if kind is None:
            raise FormatError(f"node {node.name!r}: unknown kind {node.kind!r}; the file needs a newer bittern")
        if not node.inputs or any(v not in known for v in node.inputs) or node.output in known:
            raise FormatError(f"node {node.name!r} ({node.kind}): reads or writes values out of order")
        check_node(kind, node, tensors)
        known.add(node.output)
    if program.output not in known:
        raise FormatError(f"the result, value {program.output}, is computed by no node")
    forms = forms_of(program, tensors)
    result = forms[program.output]
    several = result.type == RESULTS.name
    if not several and (result.type != "real" or not result.samples_first):
        raise FormatError(f"the result must be a real tensor [batch, ...]; it is {result.type} {list(result.shape)}")
    if any(node.kind == RESULTS.name for node in program.nodes[: -1 if several else None]):
        raise FormatError("results must be the last node of a program, and its result")
    check_memory(program, tensors, forms, memory_limit)


def forms_of(program: Program, tensors: Mapping[str, Tensor]) -> dict[int, Form]:
    """What every value is, for one sample. Raises: FormatError naming the node that does not fit its input."""
    forms = {0: input_form(program.input_shape, program.input_type)}
    for node in program.nodes:
        named = {role: tensors[name] for role, name in node.tensors.items()}
        form = RULES[node.kind](node, named, *(forms[v] for v in node.inputs))
        if math.prod(form.shape) > MAX_ELEMENTS:
            raise FormatError(f"node {node.name!r} ({node.kind}): its result {list(form.shape)} is too large")
        forms[node.output] = form
    return forms
