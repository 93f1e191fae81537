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

from bittern.deploy.engine.items import released_after
from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form
from bittern.deploy.kinds.bits import channel_scale_shapes
from bittern.deploy.kinds.kind import integer, integers
from bittern.deploy.program import Node, Program
from bittern.ops import bytes_of
from bittern.ops._check import words_for

MEMORY_LIMIT = 4 * 2**30
"""Bytes that `load`, and a call with one sample, may take unless the caller says otherwise."""

FLOAT_BYTES = 4
WORD_BYTES = 8
WIDE = ("int64", "float64", "tuple")
UNIT = 32
"""Channels to which kernels round up: no layout of theirs, nor one of torch's, has wider units."""

SMALL_IMAGE = 20_480
"""Numbers up to which torch may write out the windows of a convolution one by one."""

PLACING = 2
"""Buffers of different sizes, placed around each other, may need this many times what lives at one time."""

Forms = Mapping[int, Form]


def check_memory(program: Program, tensors: Mapping[str, Tensor], forms: Forms, limit: float) -> None:
    """Refuse a program that takes more than `limit` bytes, at load or for one sample.

    Raises: FormatError naming the first node with which it does.
    """
    loaded = sum(bytes_of(tensor) for tensor in tensors.values())
    borders, released = _borders(program), released_after(program.nodes, program.output)
    live, most, work = value_bytes(forms[0], 0), 0, 0
    for index, node in enumerate(program.nodes):
        loaded += expanded_bytes(node, tensors, forms)
        live += value_bytes(forms[node.output], borders.get(node.output, 0))
        most, work = max(most, live), max(work, working_bytes(node, tensors, forms))
        total = loaded + PLACING * most + work
        if total > limit:
            raise FormatError(
                f"node {node.name!r} ({node.kind}): with it the program takes {total} bytes for one sample, and the "
                f"limit is {limit}; if you trust the file, pass load a larger memory_limit"
            )
        for value in released[index]:
            live -= value_bytes(forms[value], borders.get(value, 0))


def value_bytes(form: Form, border: int) -> int:
    """Bytes of a value of one sample; border: pixels around an image of bits."""
    if form.type != "bits":
        return (WORD_BYTES if form.type in WIDE else FLOAT_BYTES) * form.elements
    space = form.shape[1:-1] if form.last else tuple(n + 2 * border for n in form.shape[2:])
    height = 1 + 2 * border if len(form.shape) == 3 and not form.last else 1  # a signal is an image of height 1
    return WORD_BYTES * form.planes * words_for(form.channels) * height * math.prod(space)


def expanded_bytes(node: Node, tensors: Mapping[str, Tensor], forms: Forms) -> int:
    """Bytes of what is made of a node's tensors once."""
    if node.kind == "binary":
        return _weight_bytes(node)
    if node.kind == "factors":
        return _factor_bytes(node, forms[node.output])
    if node.kind == "conv":
        out, *rest = tensors[node.tensors["weight"]].shape
        return 2 * FLOAT_BYTES * _units(out) * math.prod(_units(n) if i == 0 else n for i, n in enumerate(rest))
    rows = integer(node, "channels") if node.kind in ("encode", "threshold") else 0
    return FLOAT_BYTES * rows + 2 * sum(bytes_of(tensors[name]) for name in node.tensors.values())


def _weight_bytes(node: Node) -> int:
    """Weights as bytes of single bits on the way, as words, and as a kernel reads them; rows of parameters."""
    out, groups = integer(node, "out_channels"), integer(node, "groups")
    per_group, taps = integer(node, "channels") // groups, math.prod(integers(node, "kernel"))
    words = WORD_BYTES * words_for(per_group) * taps
    rows = (_units(out // groups) * groups + UNIT) * 24 * FLOAT_BYTES
    return integer(node, "weight_planes") * (2 * out * taps * per_group + 3 * _units(out) * words) + rows


def _factor_bytes(node: Node, form: Form) -> int:
    """The product of the factors, which broadcasts over the form, and what a kernel reads of it."""
    shapes = channel_scale_shapes(node)
    rank = max(map(len, shapes))
    sizes = [max(shape[i - rank] for shape in shapes if len(shape) >= rank - i) for i in range(rank)]
    channels = sizes[-3] if rank > 2 else 1
    return 4 * FLOAT_BYTES * (math.prod(sizes) + math.prod(sizes) // channels * _units(form.channels))


def working_bytes(node: Node, tensors: Mapping[str, Tensor], forms: Forms) -> int:
    """Bytes that a node takes beside its values while it runs, or while it is tried with random numbers."""
    inputs = sum(math.prod(forms[value].shape) for value in node.inputs)
    outputs = math.prod(forms[node.output].shape)
    if node.kind == "conv":
        return _conv_bytes(node, tensors, forms)
    if node.kind == "binary":
        pairs = integer(node, "input_planes") * integer(node, "weight_planes")
        return FLOAT_BYTES * (2 * inputs + (2 * pairs + 3) * outputs)
    if node.kind == "encode":
        return FLOAT_BYTES * (1 if node.attrs["planes"] == 1 else 5) * inputs
    return 2 * FLOAT_BYTES * (inputs + outputs)


def _conv_bytes(node: Node, tensors: Mapping[str, Tensor], forms: Forms) -> int:
    """Padded images, copies with channels in whole units, and the windows of small images one by one."""
    x, y = forms[node.inputs[0]].shape, forms[node.output].shape
    weight = tensors[node.tensors["weight"]].shape
    padded = [n + 2 * p for n, p in zip(x[2:], integers(node, "padding"), strict=True)]
    images = 3 * x[1] * math.prod(padded) + _units(x[1]) * math.prod(x[2:])
    results = 2 * (y[1] + _units(y[1])) * math.prod(y[2:])
    windows = math.prod(weight[1:]) * integer(node, "groups") * math.prod(y[2:])
    return FLOAT_BYTES * (images + results + (windows if math.prod(x) <= SMALL_IMAGE else 0))


def _units(channels: int) -> int:
    return -(-channels // UNIT) * UNIT


def _borders(program: Program) -> dict[int, int]:
    """Pixels around each image of bits: what its readers pad."""
    borders: dict[int, int] = {}
    for node in program.nodes:
        if node.kind == "binary":
            widest = max(integers(node, "padding"), default=0)
            borders[node.inputs[0]] = max(borders.get(node.inputs[0], 0), widest)
    return borders
