# SPDX-License-Identifier: Apache-2.0
"""A rewrite of a program that changes no bit: signs move in front of concatenations and max pools.

**Equal signs.** Layers that read one value with the same threshold share its bits.

**Concatenation.** The signs of parts side by side are the signs of the parts, side by side. Per-channel nodes between
the two (batch norm, hardtanh, relu) are split with the parts.

**Max pool.** What stands between the pool and the sign is, per channel, a function that never falls or never rises,
and rounding keeps that so. The sign of f(maximum) is then the maximum of the signs of f where f rises, which on packed
bits is an OR, and the minimum, an AND, where it falls (`flip`). A NaN would break this: it wins a maximum and loses a
comparison. So the pool must follow a low-bit product, whose integers no NaN reaches.

Afterwards the sign stands directly behind what it quantizes: batch norms and thresholds fold into low-bit layers
(`fold`), and what moves through memory are bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.bit_stream import to_stream
from bittern.deploy.kinds.binary import has_input_scale
from bittern.deploy.kinds.kind import integer
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.named_sizes import at_example
from bittern.deploy.program import Node, Program, tensor_name
from bittern.deploy.shapes import forms_of

Tensors = dict[str, Tensor]

ROWS = 2
"""Dimensions of one row of features per sample."""

MOST_PARTS = 16
"""Parts that a node of a file names."""


def hoist_signs(program: Program, tensors: Tensors) -> Program:
    """Apply all of this wherever it fits. Tensors of new nodes are added to `tensors`."""
    program = _shared(program, tensors)
    while (changed := next(_rewritten(program, tensors), None)) is not None:
        program = changed
    return program


def _rewritten(program: Program, tensors: Tensors) -> Iterator[Program]:
    forms = forms_of(at_example(program), tensors)
    for sign in program.nodes:
        if sign.kind != "encode":
            continue
        chain, source = _before(program, sign)
        if source is None:
            continue
        if source.kind == "concatenate" and _along_channels(source, sign, len(forms[source.output].shape)):
            widths = [forms[value].channels for value in source.inputs]
            yield _split(program, tensors, source, chain, sign, widths)
        if source.kind == "pool" and source.attrs["mode"] == "max" and _one_bit(sign) and _is_finite(program, source):
            yield _pooled_late(program, tensors, source, chain, sign)


def _shared(program: Program, tensors: Tensors) -> Program:
    """One sign for all that take the same."""
    first: dict[Any, int] = {}
    renamed: dict[int, int] = {}
    for node in program.nodes:
        if node.kind == "encode":
            named = tuple((role, tuple(tensors[name].tolist())) for role, name in sorted(node.tensors.items()))
            same = first.setdefault((node.inputs, tuple(sorted(node.attrs.items())), named), node.output)
            if same != node.output:
                renamed[node.output] = same
    return program.rewritten({value: [] for value in renamed}, renamed)


def _before(program: Program, sign: Node) -> tuple[list[Node], Node | None]:
    """(monotone nodes in front of a sign, in order; the node before those), where nothing else reads any of them."""
    chain: list[Node] = []
    node = program.producer(sign.inputs[0])
    while node is not None and program.single_consumer(node.output) is not None:
        if KINDS[node.kind].monotone is None:
            return chain, node
        chain.insert(0, node)
        node = program.producer(node.inputs[0])
    return chain, None


def _one_bit(sign: Node) -> bool:
    return sign.attrs["planes"] == 1 and sign.attrs["dims"] != 0


def _along_channels(node: Node, sign: Node, rank: int) -> bool:
    return integer(node, "dim") % rank == 1 and channels_are_first(sign, rank) and 1 < len(node.inputs) <= MOST_PARTS


def channels_are_first(node: Node, rank: int) -> bool:
    """Whether dimension 1 is that of a low-bit node's channels: of a linear layer over several rows it is not."""
    return node.attrs["dims"] != 0 or rank == ROWS


def _is_finite(program: Program, node: Node | None) -> bool:
    """Whether a node's result holds no NaN, whatever the input of the program is."""
    if node is None:
        return False
    if node.kind == "binary":
        return not has_input_scale(node)
    return KINDS[node.kind].finite and all(_is_finite(program, program.producer(value)) for value in node.inputs)


# -- max pools ---------------------------------------------------------------------------------------------


def _pooled_late(program: Program, tensors: Tensors, pool: Node, chain: list[Node], sign: Node) -> Program:
    """pool, chain, sign -> chain, sign, pool of bits: each takes the place, and the number, of the one before it."""
    channels = integer(sign, "channels")
    names = {}
    falls = _falls(chain, tensors, channels)
    if bool(falls.any()):
        names["flip"] = tensor_name(pool.name, "flip")
        tensors[names["flip"]] = to_stream(falls.view(1, -1))
    kept = {key: pool.attrs[key] for key in ("kernel", "stride", "padding", "ceil")}
    last = Node("pool_bits", pool.name, (), 0, {"channels": channels, **kept}, names)
    places, value = [pool, *chain, sign], pool.inputs[0]
    replaced = {}
    for place, node in zip(places, [*chain, sign, last], strict=True):
        replaced[place.output] = [replace(node, inputs=(value,), output=place.output)]
        value = place.output
    return program.rewritten(replaced, {})


def _falls(chain: list[Node], tensors: Tensors, channels: int) -> Tensor:
    """bool [channels]: where the chain's result falls as its input rises."""
    falls = torch.zeros(channels, dtype=torch.bool)
    for node in chain:
        monotone = KINDS[node.kind].monotone
        own = None if monotone is None else monotone(node.named(tensors))
        if own is not None:
            falls ^= own
    return falls


# -- concatenations ----------------------------------------------------------------------------------------


def _split(program: Program, tensors: Tensors, cat: Node, chain: list[Node], sign: Node, widths: list[int]) -> Program:
    """concatenate, chain, sign -> chain and sign of every part, concatenation of bits; widths: channels of each."""
    free = max(node.output for node in program.nodes) + 1
    nodes: list[Node] = []
    signs: list[int] = []
    for index, value in enumerate(cat.inputs):
        for node in (*chain, sign):
            part = _part(node, tensors, widths, index)
            nodes.append(replace(part, inputs=(value,), output=free))
            value, free = free, free + 1
        signs.append(value)
    nodes.append(Node("concatenate_bits", cat.name, tuple(signs), sign.output, {"channels": widths}))
    return program.rewritten({cat.output: [], **{node.output: [] for node in chain}, sign.output: nodes}, {})


def _part(node: Node, tensors: Tensors, widths: list[int], index: int) -> Node:
    """A node, of the channels of one part alone."""
    name = f"{node.name}.part{index}"
    names = {role: tensor_name(name, role) for role in node.tensors}
    for role, own in names.items():
        tensors[own] = torch.split(tensors[node.tensors[role]], widths)[index].contiguous()
    part = replace(node, name=name, tensors=names)
    return part.with_attrs(channels=widths[index]) if node.kind == "encode" else part
