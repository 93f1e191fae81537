# SPDX-License-Identifier: Apache-2.0
"""How much memory a program takes, worked out before any is taken, and the refusal of one that takes too much.

Counted are, in bytes: the tensors of the file; what is made of them at load (weights in words and in the order of a
kernel, spread factors, rows of parameters); for a call with one sample twice the most that its values need at one
time, because buffers are placed around each other; and the working memory of its largest node. A call with a batch
takes so much per sample, and its size is the caller's choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form
from bittern.deploy.kinds.footprint import FLOAT_BYTES, WORD_BYTES
from bittern.deploy.kinds.kind import integers
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.liveness import of_nodes, released_after
from bittern.deploy.program import Program
from bittern.ops import bytes_of
from bittern.ops._check import words_for

MEMORY_LIMIT = 4 * 2**30
"""Bytes that `load`, and a call with one sample, may take unless the caller says otherwise."""

WIDE = ("int64", "float64", "tuple")
PLACING = 2
"""Buffers of different sizes, placed around each other, may need this many times what lives at one time."""

Forms = Mapping[int, Form]


def check_memory(program: Program, tensors: Mapping[str, Tensor], forms: Forms, limit: float) -> None:
    """Refuse a program that takes more than `limit` bytes, at load or for one sample.

    Raises: FormatError naming the first node with which it does, or the inputs.
    """
    loaded = sum(bytes_of(tensor) for tensor in tensors.values())
    borders, given = _borders(program), range(len(program.inputs))
    released = released_after(of_nodes(program.nodes), program.output, len(given))
    live = most = sum(value_bytes(forms[value], 0) for value in given)
    work = 0
    _check("the input", loaded + PLACING * most, limit)
    for index, node in enumerate(program.nodes):
        kind, named, form = KINDS[node.kind], node.named(tensors), forms[node.output]
        loaded += kind.loaded(node, named, form)
        live += value_bytes(form, borders.get(node.output, 0))
        most, work = max(most, live), max(work, kind.working(node, named, [forms[v] for v in node.inputs], form))
        _check(f"node {node.name!r} ({node.kind})", loaded + PLACING * most + work, limit)
        for value in released[index]:
            live -= value_bytes(forms[value], borders.get(value, 0))


def _check(what: str, total: int, limit: float) -> None:
    if total > limit:
        raise FormatError(
            f"{what}: with it the program takes {total} bytes for one sample, and the limit is {limit}; if you trust "
            "the file, pass load a larger memory_limit"
        )


def value_bytes(form: Form, border: int) -> int:
    """Bytes of a value of one sample; border: pixels around an image of bits."""
    if form.type != "bits":
        return (WORD_BYTES if form.type in WIDE else FLOAT_BYTES) * form.elements
    space = form.shape[1:-1] if form.last else tuple(n + 2 * border for n in form.shape[2:])
    height = 1 + 2 * border if len(form.shape) == 3 and not form.last else 1  # a signal is an image of height 1
    return WORD_BYTES * form.planes * words_for(form.channels) * height * math.prod(space)


def _borders(program: Program) -> dict[int, int]:
    """Pixels around each image of bits: what its readers pad."""
    borders: dict[int, int] = {}
    for node in program.nodes:
        if node.kind == "binary":
            widest = max(integers(node, "padding"), default=0)
            borders[node.inputs[0]] = max(borders.get(node.inputs[0], 0), widest)
    return borders
