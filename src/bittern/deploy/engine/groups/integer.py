# SPDX-License-Identifier: Apache-2.0
"""Nodes of int8 values by native steps: products, sums, pools, tables and softmax, without Python between them.

Values lie as images with channels last. Nodes that only turn or reshape what lies so already are no steps: a group
reads what stands in front of them (`Source`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from bittern import ops
from bittern.deploy.engine.groups.conversions import Dequantize, Quantize
from bittern.deploy.engine.groups.group import CPU, AtBatch, Group, Material, OneNode, always
from bittern.deploy.engine.groups.native import IntegerGroup
from bittern.deploy.engine.groups.source import Forms, Source, is_images, source_of
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.native_run import NativeRun
from bittern.deploy.kinds.integer.means import mean_rule
from bittern.deploy.kinds.integer.parts import factor_at
from bittern.deploy.kinds.integer.pools import pool_rule
from bittern.deploy.kinds.integer.products import prepared
from bittern.deploy.kinds.integer.sums import sum_rule
from bittern.deploy.kinds.integer.table import every_int8
from bittern.deploy.kinds.kind import IMAGE_DIMS, integer, integers
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.program import Node, Program


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
        runs = [s.read_by(layout, record, name) for name, s in zip(("x", "residual"), self.sources, strict=False)]
        patches = [patch for run in runs for patch in run.patches]
        return NativeRun(runs[0].isa, record, patches, as_given=[patch for run in runs for patch in run.as_given])

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


class IntegerMean(IntegerNode):
    """Means of whole images."""

    def does(self) -> str:
        return "mean of int8"

    def maker(self, material: Material) -> Callable[[Layout], np.ndarray]:
        rule, out = mean_rule(self.node), self.out
        return lambda layout: ops.integer_mean_step(rule, layout.size(self.node.inputs[0]), out(layout).flatten(1))


GROUPS: dict[str, type[IntegerNode]] = {
    "integer_conv": IntegerProduct,
    "integer_linear": IntegerProduct,
    "integer_add": IntegerAddition,
    "integer_average": IntegerPool,
    "integer_max": IntegerPool,
    "integer_mean": IntegerMean,
    "integer_softmax": IntegerSoftmax,
    "integer_table": IntegerTable,
    "requantize": IntegerTable,
}


def integer_group(program: Program, forms: Forms, node: Node) -> Group | None:
    """The native group of a node that reads or writes int8 values; None: torch runs it."""
    output = forms[node.output]
    given = [forms[value] for value in node.inputs]
    if node.kind == "quantize":
        return Quantize(node) if is_images(given[0], "real") and is_images(output) else None
    if node.kind == "dequantize":
        source = source_of(program, forms, node.inputs[0])
        return Dequantize(node, source) if is_images(given[0]) and is_images(output, "real") else None
    make = GROUPS.get(node.kind)
    if make is None or not all(is_images(form) for form in (*given, output)):
        return None
    if node.kind == "integer_softmax" and len(output.shape) == IMAGE_DIMS:
        return None  # rows along the last dimension, which lies elsewhere in images
    if node.kind == "integer_add" and len({form.shape for form in (*given, output)}) > 1:
        return None
    if node.kind == "integer_mean" and (len(given[0].shape) != IMAGE_DIMS or integers(node, "dims") != [2, 3]):
        return None
    return make(node, tuple(source_of(program, forms, value) for value in node.inputs))
