# SPDX-License-Identifier: Apache-2.0
"""Between real values and int8 by native steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from bittern import ops
from bittern.deploy.engine.groups.group import AtBatch, Material, OneNode, always
from bittern.deploy.engine.groups.native import IntegerGroup, RealGroup
from bittern.deploy.engine.groups.source import Source
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.native_run import NativeRun
from bittern.deploy.kinds.kind import integer, number
from bittern.deploy.program import Node


@dataclass(frozen=True)
class Quantize(OneNode, IntegerGroup):
    """Real images, or rows of features, to int8, read where they lie."""

    node: Node

    def does(self) -> str:
        return "quantize to int8"

    def prepare(self, material: Material) -> AtBatch:
        prepared = ops.PreparedIntegerQuantize(number(self.node, "scale"), integer(self.node, "zero"))
        return always(self, partial(self._run, prepared))

    def _run(self, prepared: ops.PreparedIntegerQuantize, layout: Layout) -> NativeRun:
        source = self.node.inputs[0]
        images, planned = layout.images_at(source)
        record = prepared.step(images, layout.plan.images[self.output])
        return NativeRun(ops.chosen_isa(), record, strided=[] if planned else [("integer_quantize", 0, source)])


@dataclass(frozen=True)
class Dequantize(OneNode, RealGroup):
    """int8 images, or rows of features, to real ones."""

    node: Node
    source: Source

    @property
    def reads(self) -> tuple[int, ...]:
        return (self.source.value,)

    def does(self) -> str:
        return "dequantize from int8"

    def prepare(self, material: Material) -> AtBatch:
        prepared = ops.PreparedIntegerDequantize(number(self.node, "scale"), integer(self.node, "zero"))
        return always(self, partial(self._run, prepared))

    def _run(self, prepared: ops.PreparedIntegerDequantize, layout: Layout) -> NativeRun:
        record = prepared.step(layout.plan.images[self.output])
        return self.source.read_by(layout, record, "x")
