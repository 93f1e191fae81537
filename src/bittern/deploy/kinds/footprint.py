# SPDX-License-Identifier: Apache-2.0
"""Bytes that nodes take at load and while they run: the rules that kinds share, and the units in which they count."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bittern.deploy.form import Form, Tensors
from bittern.deploy.program import Node
from bittern.ops import bytes_of

FLOAT_BYTES = 4
WORD_BYTES = 8
UNIT = 32
"""Channels to which kernels round up: no layout of theirs, nor one of torch's, has wider units."""

Loaded = Callable[[Node, Tensors, Form], int]
"""(node, its tensors by role, form of its result) -> bytes of what is made of its tensors once."""

Working = Callable[[Node, Tensors, Sequence[Form], Form], int]
"""(node, its tensors by role, forms of its inputs, form of its result) -> bytes."""


def units(channels: int) -> int:
    """Channels in whole units."""
    return -(-channels // UNIT) * UNIT


def copies(node: Node, tensors: Tensors, form: Form) -> int:
    """Two copies of each tensor."""
    return 2 * sum(bytes_of(tensor) for tensor in tensors.values())


def inputs_and_result(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    """Two copies of what it reads and writes."""
    return 2 * FLOAT_BYTES * (sum(math.prod(x.shape) for x in inputs) + math.prod(form.shape))
