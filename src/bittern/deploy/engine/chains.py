# SPDX-License-Identifier: Apache-2.0
"""Which nodes change every number of an image by itself, one behind the other: chains that run as one native step.

What stands between products, such as a second activation, a norm behind it, the factors of a squeeze and excitation or
a further shortcut, takes torch one walk through memory each. A chain takes one for all, as long as nothing else reads
what lies between.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from bittern.deploy.engine.groups.behind_affine import affine_in_front
from bittern.deploy.engine.groups.group import Group
from bittern.deploy.engine.groups.map import ALONE, OPERANDS, PAIRS, Link, Map
from bittern.deploy.engine.pieces import Pieces
from bittern.deploy.form import Form
from bittern.deploy.kinds.kind import IMAGE_DIMS
from bittern.deploy.program import Node, Program

Forms = Mapping[int, Form]

SIGNAL_DIMS = 3


def find_chains(
    program: Program, forms: Forms, native: Sequence[Group], taken: Collection[int], pieces: Pieces
) -> list[Map]:
    """The chains beside groups that native code runs; taken: numbers of the nodes that other groups have."""
    chains: list[Map] = []
    taken, written = set(taken), {group.output for group in native}
    for node in program.nodes:
        chain = None if node.output in taken else _grown(program, forms, node, taken)
        if chain is not None and _pays(program, forms, chain, written):
            chains.append(_reading_pieces(chain, pieces))
            taken |= set(chain.nodes)
            written.add(chain.output)
    return chains


def _grown(program: Program, forms: Forms, node: Node, taken: Collection[int]) -> Map | None:
    """The chain that begins with a node, as long as it gets."""
    source = next((value for value in node.inputs if _is_alike(forms, value, node.output)), None)
    chain = None if source is None else _linked(program, forms, Map(node, source, ()), node, taken)
    while chain is not None:
        reader = program.single_consumer(chain.output)
        if reader is None or reader.output in taken or not _is_alike(forms, reader.output, chain.output):
            break
        longer = _linked(program, forms, chain, reader, taken)
        if longer is None:
            break
        chain = longer
    return chain


def _linked(program: Program, forms: Forms, chain: Map, node: Node, taken: Collection[int]) -> Map | None:
    """The chain with one more node; None: it is no operation on each number, or reads more operands than there are."""
    value = chain.output if chain.links else chain.source
    if node.kind in ALONE:
        along = node.kind != "bias" or not node.attrs["last"]
        return replace(chain, node=node, links=(*chain.links, Link(node))) if along else None
    if node.kind not in PAIRS:
        return None
    operand = node.inputs[1 - node.inputs.index(value)]
    if (chain.links and operand == value) or not _is_operand(forms, operand, node.output):
        return None
    mapped = None
    if node.kind == "add" and not chain.operands and _is_alike(forms, operand, node.output):
        mapped = affine_in_front(program, node, taken, operand)
    operand = operand if mapped is None else mapped.inputs[0]
    operands = chain.operands if operand in chain.operands else (*chain.operands, operand)
    if len(operands) > len(OPERANDS):
        return None
    return replace(chain, node=node, links=(*chain.links, Link(node, operand, mapped)), operands=operands)


def _is_mapped_image(forms: Forms, value: int) -> bool:
    """Images or signals, whose channels are dimension 1."""
    form = forms[value]
    right = len(form.shape) in (SIGNAL_DIMS, IMAGE_DIMS) and form.type == "real"
    return right and form.samples_first and not form.rows and not form.last


def _is_alike(forms: Forms, value: int, other: int) -> bool:
    return _is_mapped_image(forms, value) and forms[value].shape == forms[other].shape


def _is_operand(forms: Forms, value: int, other: int) -> bool:
    """Images of the same size, or one number for each channel of a sample."""
    if not _is_mapped_image(forms, value):
        return False
    shape = forms[other].shape
    return forms[value].shape in (shape, (*shape[:2], *(1,) * (len(shape) - 2)))


def _pays(program: Program, forms: Forms, chain: Map, written: Collection[int]) -> bool:
    """Whether native code is faster than torch: not where it would only turn what torch lays out otherwise.

    An affine map alone is left to a pool or signs behind it, which take it in.
    """
    if len(chain.links) > 1:
        return True
    reader = program.single_consumer(chain.output)
    taken_in = reader is not None and (
        (reader.kind == "encode" and reader.attrs["planes"] == 1)
        or (reader.kind == "pool" and len(forms[chain.output].shape) == IMAGE_DIMS)
    )
    return chain.source in written and not (chain.node.kind == "affine" and taken_in)


def _reading_pieces(chain: Map, pieces: Pieces) -> Map:
    """The chain, which reads the one piece that a slice takes, where it reads such a slice."""

    def place(value: int) -> int:
        found = pieces.get(value, ())
        return found[0] if len(found) == 1 else value

    links = tuple(link if link.operand is None else link._replace(operand=place(link.operand)) for link in chain.links)
    operands = tuple(dict.fromkeys(map(place, chain.operands)))
    return replace(chain, source=place(chain.source), links=links, operands=operands)
