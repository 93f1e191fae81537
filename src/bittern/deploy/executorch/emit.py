# SPDX-License-Identifier: Apache-2.0
"""From a partition of an exported program to the calls of a `Blob`: one function per op."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node

from bittern import ops
from bittern.deploy.executorch.blob import NONE, Blob, Code
from bittern.ops._check import DTYPE_CODES

RANK = 4
"""Dimensions of a permutation in a blob; shorter ones are filled up in front."""


def target_name(node: Node) -> str:
    """Name of the op that a node calls, e.g. "bittern::pack_signs"; empty for other nodes."""
    if node.op != "call_function" or node.target is operator.getitem:
        return ""
    schema = getattr(node.target, "_schema", None)
    return "" if schema is None else str(schema.name)


def emit(program: ExportedProgram) -> bytes:
    """The blob of one partition."""
    return _Emitter(program).run()


class _Emitter:
    """Walks the nodes of a partition in order."""

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        nodes = list(program.graph.nodes)
        signature = program.graph_signature
        kinds = {spec.arg.name: spec for spec in signature.input_specs}
        arguments = [n for n in nodes if n.op == "placeholder" and kinds[n.name].kind is InputKind.USER_INPUT]
        constants = [(name, spec) for name, spec in kinds.items() if spec.kind is not InputKind.USER_INPUT]
        self.tensors = {name: _constant(program, spec.target) for name, spec in constants}
        (result,) = (n for n in nodes if n.op == "output")
        self.outputs: list[Node] = list(result.args[0])
        self.blob = Blob(len(arguments), len(self.outputs))
        self.values = {node: self.blob.argument(i, nbytes(node)) for i, node in enumerate(arguments)}

    def run(self) -> bytes:
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                EMITTERS[target_name(node)](self, node, *node.args)
        return self.blob.to_bytes()

    def result(self, node: Node) -> int:
        """The value that `node` writes: where nothing but a copy reads it, that of the copy."""
        (reader, *others) = node.users
        if not others and EMITTERS.get(target_name(reader)) is _copy:
            self.values[node] = self.result(reader)
        elif node in self.outputs:
            position = self.blob.inputs + self.outputs.index(node)
            self.values[node] = self.blob.argument(position, nbytes(node))
        else:
            self.values[node] = self.blob.working(nbytes(node))
        return self.values[node]

    def constant(self, node: Node | None) -> int:
        return NONE if node is None else self.blob.constant(self.tensors[node.name].numpy().tobytes())

    def weight_bits(self, words: Tensor, channels: int) -> int:
        """Bits without gaps, the channels of a group last: as in a packed file."""
        positive = ops.unpack_signs(words, channels) >= 0
        return self.blob.constant(np.packbits(positive.numpy().reshape(-1), bitorder="little").tobytes())


def _constant(program: ExportedProgram, target: str) -> Tensor:
    found = program.state_dict.get(target, program.constants.get(target))
    assert isinstance(found, Tensor)
    return found.detach().contiguous()


def fake(node: Node) -> Tensor:
    """Shape and dtype of what a node computes."""
    value = node.meta["val"]
    assert isinstance(value, Tensor)
    return value


def nbytes(node: Node) -> int:
    return fake(node).numel() * fake(node).element_size()


# -- one function per op -----------------------------------------------------------------------------------


def _pack_signs(e: _Emitter, node: Node, x: Node, threshold: Node | None = None) -> None:
    shape = fake(x).shape
    rows = fake(x).numel() // shape[-1]
    limits = e.constant(threshold)
    e.blob.call(Code.PACK, e.values[x], limits, e.result(node), DTYPE_CODES[fake(x).dtype], rows, shape[-1])


def _xor(e: _Emitter, node: Node, x: Node, mask: Node) -> None:
    words = fake(x).shape[-1]
    e.blob.call(Code.XOR, e.values[x], e.constant(mask), e.result(node), fake(x).numel() // words, words)


def _conv2d(
    e: _Emitter,
    node: Node,
    x: Node,
    w: Node,
    channels: int,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int = 1,
    pad_value: int = 0,
    epilogue: Node | None = None,
) -> None:
    out_channels, kernel_h, kernel_w = fake(w).shape[:3]
    weight = e.weight_bits(e.tensors[w.name], channels // groups)
    values = (e.values[x], weight, e.constant(epilogue), e.result(node))
    sizes = (*fake(x).shape[:3], channels, out_channels, kernel_h, kernel_w)
    e.blob.call(Code.CONV2D, *values, *sizes, *stride, *padding, *dilation, groups, pad_value)


def _matmul(e: _Emitter, node: Node, a: Node, b: Node, k: int, epilogue: Node | None = None) -> None:
    """A product of matrices is the 1x1 convolution of an image with one row."""
    rows, out = fake(a).numel() // fake(a).shape[-1], fake(b).shape[0]
    values = (e.values[a], e.weight_bits(e.tensors[b.name], k), e.constant(epilogue), e.result(node))
    e.blob.call(Code.CONV2D, *values, 1, 1, rows, k, out, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0)


def _pool_bits(
    e: _Emitter,
    node: Node,
    x: Node,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    ceil: bool = False,
    flip: Node | None = None,
) -> None:
    sizes = (*fake(x).shape, *fake(node).shape[1:3])
    values = (e.values[x], e.constant(flip), e.result(node))
    e.blob.call(Code.POOL_BITS, *values, *sizes, *kernel, *stride, *padding)


def _concatenate_bits(e: _Emitter, node: Node, parts: list[Node], channels: list[int]) -> None:
    """One call for each part, in order."""
    words, out, offset = fake(node).shape[-1], e.result(node), 0
    for part, bits in zip(parts, channels, strict=True):
        rows = fake(part).numel() // fake(part).shape[-1]
        e.blob.call(Code.CONCATENATE_BITS, e.values[part], out, rows, bits, offset, words)
        offset += bits


def _permute(e: _Emitter, node: Node, x: Node, order: list[int]) -> None:
    missing = RANK - len(order)
    sizes = [1] * missing + list(fake(x).shape)
    full = [*range(missing), *(missing + d % len(order) for d in order)]
    e.blob.call(Code.PERMUTE, e.values[x], e.result(node), fake(x).element_size(), *sizes, *full)


def _copy(e: _Emitter, node: Node, x: Node, *rest: Any) -> None:
    """Ops that change the shape alone: nothing to do, unless a result needs a place of its own."""
    if node in e.values:
        return
    if node not in e.outputs:
        e.values[node] = e.values[x]
        return
    sizes = [1] * (RANK - 1) + [fake(x).numel()]
    e.blob.call(Code.PERMUTE, e.values[x], e.result(node), fake(x).element_size(), *sizes, *range(RANK))


PRODUCTS: dict[str, Callable[..., None]] = {
    "bittern::pack_signs": _pack_signs,
    "bittern::binary_conv2d": _conv2d,
    "bittern::binary_matmul": _matmul,
    "bittern::pool_bits": _pool_bits,
    "bittern::concatenate_bits": _concatenate_bits,
    "aten::bitwise_xor": _xor,
}
"""What the kernels compute. Nothing but a threshold's flip is an exclusive or."""
LAYOUT: dict[str, Callable[..., None]] = {
    "aten::permute_copy": _permute,
    "aten::squeeze_copy": _copy,
    "aten::unsqueeze_copy": _copy,
    "aten::view_copy": _copy,
    "aten::clone": _copy,
    "dim_order_ops::_clone_dim_order": _copy,
}
"""What moves their values about."""
EMITTERS = PRODUCTS | LAYOUT
