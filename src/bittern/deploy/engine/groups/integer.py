# SPDX-License-Identifier: Apache-2.0
"""Nodes of int8 values by native steps: products, sums, pools, tables and softmax, without Python between them.

Values lie as images with channels last. Nodes that only turn or reshape what lies so already are no steps: a group
reads what stands in front of them (`Source`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from bittern import ops
from bittern.deploy.engine.groups.group import CPU, AtBatch, Material, OneNode, always
from bittern.deploy.engine.groups.native import IntegerGroup
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.native_run import NativeRun
from bittern.deploy.form import Form
from bittern.deploy.kinds.integer.parts import factor_at
from bittern.deploy.kinds.integer.pools import pool_rule
from bittern.deploy.kinds.integer.products import prepared
from bittern.deploy.kinds.integer.sums import sum_rule
from bittern.deploy.kinds.integer.table import every_int8
from bittern.deploy.kinds.kind import IMAGE_DIMS, integer
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.program import Node, Program

Forms = Mapping[int, Form]

ROW_DIMS = 2

LAYOUT_OPERATORS = ("permute.default", "reshape.default")
CHANNELS_FIRST, CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


class Source(NamedTuple):
    """Where the images that a group reads lie."""

    value: int
    as_given: bool = False
    """Whether the value has the order of dimensions that the images have in memory, not torch's."""


@dataclass(frozen=True)
class IntegerNode(OneNode, IntegerGroup):
    """One node."""

    node: Node
    sources: tuple[Source, ...]

    @property
    def reads(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(source.value for source in self.sources))

    @abstractmethod
    def maker(self, material: Material) -> Callable[[Layout], np.ndarray]:
        """Makes the record at a batch size, but for what it reads."""

    def does(self) -> str:
        return self.node.kind.removeprefix("integer_") + " of int8"

    def prepare(self, material: Material) -> AtBatch:
        return always(self, partial(self._run, self.maker(material)))

    def _run(self, make: Callable[[Layout], np.ndarray], layout: Layout) -> NativeRun:
        record = make(layout)
        part = ops.part_of(record)
        run = NativeRun(ops.chosen_isa(), record)
        for name, source in zip(("x", "residual"), self.sources, strict=False):
            images = layout.plan.images.get(source.value)
            if images is None:
                (run.as_given if source.as_given else run.patches).append((part, name, 0, source.value))
            else:
                record[part][name] = images.data_ptr()
                record["sizes"]["input" if name == "x" else name] = ops.bytes_of(images)
        return NativeRun(run.isa, record, run.patches, as_given=run.as_given)

    @property
    def out(self) -> Callable[[Layout], torch.Tensor]:
        """Its images in planned memory."""
        return lambda layout: layout.plan.images[self.output]


class IntegerProduct(IntegerNode):
    """A convolution, or a linear layer, with its factors and limits."""

    def maker(self, material: Material) -> Callable[[Layout], np.ndarray]:
        conv, out = prepared(self.node, self.node.named(material.tensors)), self.out
        return lambda layout: conv.step(layout.size(self.node.inputs[0]), out(layout))


class IntegerAddition(IntegerNode):
    """A sum."""

    @property
    def in_place(self) -> int | None:
        return self.sources[0].value

    def maker(self, material: Material) -> Callable[[Layout], np.ndarray]:
        rule, out = sum_rule(self.node), self.out
        return lambda layout: ops.integer_add_step(rule, out(layout))


class IntegerPool(IntegerNode):
    """Means or maxima over windows."""

    def does(self) -> str:
        return f"{self.node.kind.removeprefix('integer_')} pool of int8"

    def maker(self, material: Material) -> Callable[[Layout], np.ndarray]:
        rule, out = pool_rule(self.node), self.out
        return lambda layout: ops.integer_pool_step(rule, layout.size(self.node.inputs[0]), out(layout))


class IntegerSoftmax(IntegerNode):
    """Softmax of rows."""

    def maker(self, material: Material) -> Callable[[Layout], np.ndarray]:
        softmax, out = ops.PreparedIntegerSoftmax(factor_at(self.node), integer(self.node, "least")), self.out
        return lambda layout: softmax.step(out(layout).flatten(1))


class IntegerTable(IntegerNode):
    """What changes each number by itself: the table of its 256 answers."""

    @property
    def in_place(self) -> int | None:
        return self.sources[0].value

    def maker(self, material: Material) -> Callable[[Layout], np.ndarray]:
        step = KINDS[self.node.kind].build(self.node, self.node.named(material.tensors), CPU)
        table, out = step(every_int8().to(torch.int8)).contiguous(), self.out
        return lambda layout: ops.integer_table_step(table, out(layout))


GROUPS: dict[str, type[IntegerNode]] = {
    "integer_conv": IntegerProduct,
    "integer_linear": IntegerProduct,
    "integer_add": IntegerAddition,
    "integer_average": IntegerPool,
    "integer_max": IntegerPool,
    "integer_softmax": IntegerSoftmax,
    "integer_table": IntegerTable,
    "requantize": IntegerTable,
}


def integer_group(program: Program, forms: Forms, node: Node) -> IntegerNode | None:
    """The native group of a node of int8 values; None: torch runs it."""
    make = GROUPS.get(node.kind)
    values = (*node.inputs, node.output)
    if make is None or not all(_is_images(forms[value]) for value in values):
        return None
    if node.kind == "integer_add" and len({forms[value].shape for value in values}) > 1:
        return None
    return make(node, tuple(source_of(program, forms, value) for value in node.inputs))


def _is_images(form: Form) -> bool:
    """Images, or rows of features, of int8."""
    return form.type == "int8" and form.samples_first and len(form.shape) in (ROW_DIMS, IMAGE_DIMS)


def is_layout(node: Node) -> bool:
    """Whether a node only turns or reshapes."""
    return node.kind == "flatten" or (node.kind == "aten" and node.attrs["operator"] in LAYOUT_OPERATORS)


def source_of(program: Program, forms: Forms, value: int) -> Source:
    """Where the images of a value lie: its own, or in front of nodes that leave memory as it is."""
    node = program.producer(value)
    if node is None or not is_layout(node):
        return Source(value)
    before = node.inputs[0]
    if not _is_images(forms[before]):
        return Source(value)
    if len(forms[value].shape) == IMAGE_DIMS:
        return Source(before, as_given=True) if _is_given_order(program, node, CHANNELS_FIRST) else Source(value)
    if len(forms[before].shape) != IMAGE_DIMS:
        return Source(value)
    turned = program.producer(before)
    if turned is not None and is_layout(turned) and _is_turn(turned, CHANNELS_LAST):
        return source_of(program, forms, turned.inputs[0])
    one_pixel = forms[before].shape[2:] == (1, 1)
    return source_of(program, forms, before) if one_pixel else Source(value)


def _is_turn(node: Node, order: list[int]) -> bool:
    """Whether a node is a permutation to this order."""
    arguments = node.attrs.get("arguments")
    return node.attrs.get("operator") == "permute.default" and isinstance(arguments, list) and arguments[-1] == order


def _is_given_order(program: Program, node: Node, order: list[int]) -> bool:
    """A permutation of what a call gives, which lies as it is given."""
    return _is_turn(node, order) and program.producer(node.inputs[0]) is None
