# SPDX-License-Identifier: Apache-2.0
"""The shape of every value of a program, worked out from the shapes of one sample without computing anything.

A file is checked with these rules (`Kind.shape`) before memory is taken for it. They are plain integer arithmetic: no
size that a file claims reaches an allocator before it was compared with the limit in `packed`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, input_form
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.program import Program

MAX_ELEMENTS = 2**31
"""A program whose values grow beyond this for one sample is refused."""


def forms_of(program: Program, tensors: Mapping[str, Tensor]) -> dict[int, Form]:
    """What every value is, for one sample. Raises: FormatError naming the node that does not fit its input."""
    forms = {value: input_form(given) for value, given in enumerate(program.inputs)}
    for node in program.nodes:
        form = KINDS[node.kind].shape(node, node.named(tensors), *(forms[v] for v in node.inputs))
        if math.prod(form.shape) > MAX_ELEMENTS:
            raise FormatError(f"node {node.name!r} ({node.kind}): its result {list(form.shape)} is too large")
        forms[node.output] = form
    return forms
