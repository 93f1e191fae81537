# SPDX-License-Identifier: Apache-2.0
"""Which nodes of a program run together: a product with the residual, activation and sign behind it.

A program stays as it was packed; fusing only decides how it runs on the CPU. A product takes in what follows it while
nothing else reads what lies between: an addition, whose other side becomes the residual (with its own 2x2 mean,
doubled or padded channels), one activation, and one sign. What stays outside runs node by node, and `reason` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bittern.deploy.engine.chains import find_chains
from bittern.deploy.engine.groups.behind_affine import affine_in_front
from bittern.deploy.engine.groups.bits import BitConcatenation, BitPool, Encode, Unread
from bittern.deploy.engine.groups.block import NO_RULE, Block
from bittern.deploy.engine.groups.group import Group
from bittern.deploy.engine.groups.integer import integer_group
from bittern.deploy.engine.groups.neighbours import mean_of_neighbours
from bittern.deploy.engine.groups.pool import Pool
from bittern.deploy.engine.groups.real import RealProduct, WholeMean
from bittern.deploy.engine.groups.rows import MOST_WEIGHTS, RowProduct, RowScale
from bittern.deploy.engine.groups.source import is_layout
from bittern.deploy.engine.groups.torch_node import TorchNode
from bittern.deploy.engine.pieces import Pieces, find_pieces
from bittern.deploy.engine.residual import trace_residual
from bittern.deploy.form import Form
from bittern.deploy.kinds.binary import TORCH, has_input_scale
from bittern.deploy.kinds.kind import integer, integers
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.program import Node, Program
from bittern.ops import Activation

Forms = Mapping[int, Form]

LEAST_OF_GROUP = 8
"""Output channels of a group that the native convolution takes; of fewer, half a vector would stay empty."""

IMAGE_RANK = {0: 2, 1: 3, 2: 4}
"""Dimensions of what a product over so many dimensions of space writes; for 0, one row of features per sample."""


def fuse(program: Program, forms: Forms, native_products: bool = True) -> tuple[Group, ...]:
    """The groups of a program, in an order in which they can run.

    forms: what every value is (`shapes.forms_of`). native_products: whether native code may run real products.
    """
    pieces = find_pieces(program, forms)
    heads = [node for node in program.nodes if reason(program, forms, node) is None]
    blocks: list[Block] = []
    taken: set[int] = set()
    for node in reversed(heads):  # of two products that are added, the later one takes the addition
        blocks.append(_reading_pieces(_grow(program, forms, node, taken), pieces))
        taken |= set(blocks[-1].taken)
    products: list[Group] = []
    for node in program.nodes if native_products else ():
        if _is_real_product(forms, node):
            products.append(_grow_real(program, node, taken))
        elif _is_row_product(forms, node):
            products.append(RowProduct(node, _flatten_of_pixels(program, forms, node)))
    taken |= {number for product in products for number in product.nodes}
    maps = find_chains(program, forms, [*blocks, *products], taken, pieces)
    taken |= {number for chain in maps for number in chain.nodes}
    grown: dict[int, Group] = {group.output: group for group in (*blocks, *products, *maps)}
    groups: list[Group] = []
    read = {program.output}
    for node in reversed(program.nodes):  # a pool or a sign is seen before the affine node that it takes in
        if node.output in grown:
            groups.append(grown[node.output])
        elif node.output not in taken:
            groups.append(_in_pieces(node, pieces, read) or _single(program, forms, node, taken, pieces))
            taken |= set(groups[-1].nodes)
        else:
            continue
        read.update(groups[-1].reads)
    groups.reverse()
    _check(program, groups)
    return tuple(groups)


def _reading_pieces(block: Block, pieces: Pieces) -> Block:
    """The block, whose residual is the one piece that a slice takes, if it takes one."""
    found = () if block.residual is None else pieces.get(block.residual, ())
    return replace(block, residual=found[0]) if len(found) == 1 else block


def _in_pieces(node: Node, pieces: Pieces, read: set[int]) -> Group | None:
    """A node whose result is made of other values: not run where nothing reads it, else put together at once."""
    if node.output not in read and (node.output in pieces or is_layout(node)):
        return Unread(node)
    if node.output not in pieces:
        return None
    return TorchNode(replace(node, inputs=pieces[node.output])) if node.kind == "concatenate" else None


def _check(program: Program, groups: Sequence[Group]) -> None:
    """What growing must ensure: each node is part of one group, and each value is written before a group reads it."""
    parts = Counter(number for group in groups for number in group.nodes)
    for node in program.nodes:
        if parts[node.output] != 1:
            raise AssertionError(
                f"fuse: node {node.name!r} ({node.kind}) is part of {parts[node.output]} groups, not 1"
            )
    written = set(range(len(program.inputs)))
    for group in groups:
        node, missing = group.node, set(group.reads) - written
        if missing:
            raise AssertionError(f"fuse: node {node.name!r} ({node.kind}) reads values {missing} before they are there")
        written.update(group.writes)
    if program.output not in written:
        raise AssertionError(f"fuse: the result, value {program.output}, is written by no group")


def _single(program: Program, forms: Forms, node: Node, taken: set[int], pieces: Pieces) -> Group:
    """A single node, or a pool or signs with an affine node in front, as native code runs it if it does."""
    rank = len(forms[node.output].shape)
    if (integers := integer_group(program, forms, node)) is not None:
        return integers
    if node.kind == "encode" and _is_native(forms[node.output], node):
        if integer(node, "planes") > 1 or forms[node.output].rows:
            return Encode(node)
        before = affine_in_front(program, node, taken)
        return Encode(node, before, pieces.get((before or node).inputs[0], ()))
    several_rows = forms[node.output].last and rank > IMAGE_RANK[0]
    if node.kind == "pool_bits" and not several_rows:
        return BitPool(node)
    if node.kind == "concatenate_bits" and (forms[node.output].rows or not several_rows):
        return BitConcatenation(node)
    if not forms[node.inputs[0]].rows and _is_whole_mean(node, len(forms[node.inputs[0]].shape)):
        return WholeMean(node)
    neighbours = mean_of_neighbours(program, forms, node)
    if neighbours is not None:
        return neighbours
    if node.kind == "affine" and rank == IMAGE_RANK[0]:
        return RowScale(node, _flatten_of_pixels(program, forms, node))
    if rank != IMAGE_RANK[2] or node.kind != "pool":
        return TorchNode(node, reason(program, forms, node) or "")
    return Pool(node, affine_in_front(program, node, taken))


def _flatten_of_pixels(program: Program, forms: Forms, node: Node) -> Node | None:
    """The flatten in front of a node, if nothing else reads it and its images have one pixel: the same memory."""
    before = program.producer(node.inputs[0])
    if before is None or before.kind != "flatten" or program.single_consumer(before.output) is not node:
        return None
    shape = forms[before.inputs[0]].shape
    one_pixel = len(shape) == IMAGE_RANK[2] and shape[2:] == (1, 1)
    return before if one_pixel and forms[before.inputs[0]].type == "real" else None


def _is_whole_mean(node: Node, rank: int) -> bool:
    """Whether a node is the mean of each channel over all positions."""
    if rank not in (IMAGE_RANK[1], IMAGE_RANK[2]):
        return False
    if node.kind == "adaptive_pool":
        return set(integers(node, "size")) == {1}
    return node.kind == "mean" and sorted(d % rank for d in integers(node, "dims")) == list(range(2, rank))


def reason(program: Program, forms: Forms, node: Node) -> str | None:
    """Why a node is no block; None: it is one."""
    if node.kind != "binary":
        return "no product of bits"
    if has_input_scale(node) and node.attrs["scale_order"] == TORCH:
        return "its scale depends on the input, in torch's order of sums"
    if not _is_native(forms[node.output], node):
        return "it multiplies rows of a sample in several dimensions, or beside low-bit layers of signals"
    if node.attrs["result"] == "acc":
        reader = program.single_consumer(node.output)
        if reader is None or reader.kind != "threshold":
            return "its accumulators are read by other nodes"
    return None


def _is_native(form: Form, node: Node) -> bool:
    """Whether native code takes what a low-bit node gives as images: also several rows of features a sample."""
    dims = integer(node, "dims")
    return len(form.shape) == IMAGE_RANK[dims] or (dims == 0 and form.rows)


# -- growing a block ---------------------------------------------------------------------------------------


def _grow(program: Program, forms: Forms, node: Node, others: set[int]) -> Block:
    """A block as large as it gets without the nodes of others."""
    block = Block(node, (node.output,), node.output)
    if node.attrs["result"] == "acc":
        sign = program.single_consumer(node.output)
        assert sign is not None
        return replace(block, taken=(node.output, sign.output), sign=sign)
    while (reader := program.single_consumer(block.value)) is not None and reader.output not in others:
        if forms[node.output].rows:
            grown = _with_one_of_rows(forms, block, reader)
        else:
            grown = (
                _with_channel_scales(block, reader)
                or _with_norm(block, reader)
                or _with_residual(program, forms, block, reader)
                or _with_activation(block, reader)
            )
        if grown is None:
            break
        block = grown
    return _with_sign(program, block)


def _with_one_of_rows(forms: Forms, block: Block, node: Node) -> Block | None:
    """A product of several rows a sample, whose channels come last: what goes along dimension 1 is none of theirs."""
    if node.kind == "bias":
        return _with_norm(block, node) if node.attrs["last"] else None
    if node.kind == "add" and block.residual is None and node.inputs[0] != node.inputs[1]:
        other = node.inputs[1 - node.inputs.index(block.value)]
        if not forms[other].rows or forms[other].shape != forms[block.value].shape:
            return None
        rule = NO_RULE._replace(last=block.activation is not Activation.NONE)
        return replace(_extend(block, node), residual=other, rule=rule)
    return _with_activation(block, node) if node.kind in ("relu", "hardtanh") else None


def _extend(block: Block, node: Node, *more: int) -> Block:
    return replace(block, value=node.output, taken=(*block.taken, *more, node.output))


def _with_channel_scales(block: Block, node: Node) -> Block | None:
    free = block.value == block.node.output and block.node.attrs["epilogue"] in ("none", "scale")
    return replace(_extend(block, node), channel_scales=node) if node.kind == "factors" and free else None


def _with_norm(block: Block, node: Node) -> Block | None:
    multiplied = (block.channel_scales or block.node).output
    free = block.value == multiplied and block.node.attrs["epilogue"] in ("none", "scale")
    along_channels = node.kind == "bias" and (not node.attrs["last"] or block.node.attrs["dims"] == 0)
    return replace(_extend(block, node), norm=node) if (node.kind == "affine" or along_channels) and free else None


def _with_activation(block: Block, node: Node) -> Block | None:
    kinds = {
        "relu": Activation.RELU,
        "hardtanh": Activation.HARDTANH,
        "prelu": Activation.PRELU,
        "rprelu": Activation.RPRELU,
    }
    if node.kind not in kinds or block.activation is not Activation.NONE:
        return None
    return replace(_extend(block, node), activation=kinds[node.kind], activation_node=node)


def _with_residual(program: Program, forms: Forms, block: Block, node: Node) -> Block | None:
    if node.kind != "add" or block.residual is not None or node.inputs[0] == node.inputs[1]:
        return None
    other = node.inputs[1 - node.inputs.index(block.value)]
    if forms[other].shape != forms[block.value].shape:
        return None
    mapping = program.producer(other)
    if mapping is not None and mapping.kind == "affine" and program.single_consumer(other) is node:
        block, other, reader = _taking(block, mapping), mapping.inputs[0], mapping
    else:
        mapping, reader = None, node
    source, rule, arranging = trace_residual(program, other, reader)
    rule = rule._replace(last=block.activation is not Activation.NONE)
    return replace(_extend(block, node, *arranging), residual=source, rule=rule, residual_map=mapping)


def _taking(block: Block, node: Node) -> Block:
    return replace(block, taken=(*block.taken, node.output))


def _with_sign(program: Program, block: Block) -> Block:
    readers = program.consumers(block.value)
    sign = next((node for node in readers if _packs_signs(node, block.node)), None)
    real = len(readers) > (sign is not None) or block.value == program.output
    if sign is None:
        return replace(block, is_real=True)
    return replace(block, sign=sign, is_real=real, taken=(*block.taken, sign.output))


def _packs_signs(node: Node, product: Node) -> bool:
    """Whether the tail of a product can write what an encode node gives: signs along the product's own channels."""
    return node.kind == "encode" and node.attrs["planes"] == 1 and node.attrs["dims"] == product.attrs["dims"]


def _is_real_product(forms: Forms, node: Node) -> bool:
    images = len(forms[node.output].shape) == IMAGE_RANK[2]
    if not images or node.kind != "conv" or "bias" in node.tensors:
        return False
    groups = integer(node, "groups")
    return groups == 1 or forms[node.output].channels // groups >= LEAST_OF_GROUP


def _is_row_product(forms: Forms, node: Node) -> bool:
    shape = forms[node.output].shape
    rows = len(shape) == IMAGE_RANK[0] and node.kind == "linear"
    rows |= node.kind == "conv" and _is_of_single_pixels(forms, node)
    return rows and shape[1] * forms[node.inputs[0]].channels <= MOST_WEIGHTS


def _is_of_single_pixels(forms: Forms, node: Node) -> bool:
    """Whether a convolution multiplies the channels of one pixel with a weight, and no more."""
    one = (1, 1)
    return (
        forms[node.inputs[0]].shape[2:] == one
        and forms[node.output].shape[2:] == one
        and integer(node, "groups") == 1
        and set(integers(node, "padding")) == {0}
    )


def _grow_real(program: Program, node: Node, taken: set[int]) -> RealProduct:
    """A real convolution with a norm, a clamp and maxima behind it; a norm in front of means is left to those."""

    def reader_of(product: RealProduct) -> Node | None:
        reader = program.single_consumer(product.output)
        return None if reader is None or reader.output in taken else reader

    product = RealProduct(node)
    norm = reader_of(product)
    if norm is not None and norm.kind == "affine":
        reader = program.single_consumer(norm.output)
        if reader is None or reader.kind != "pool" or _takes_maxima(reader):
            product = replace(product, affine=norm)
    clamp = reader_of(product)
    if clamp is not None and KINDS[clamp.kind].clamp is not None:
        product = replace(product, clamp=clamp)
    pool = reader_of(product)
    return replace(product, pool=pool) if pool is not None and _takes_maxima(pool) else product


def _takes_maxima(node: Node) -> bool:
    return node.kind == "pool" and node.attrs["mode"] == "max"
