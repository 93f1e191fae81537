# SPDX-License-Identifier: Apache-2.0
"""Real convolutions and means of whole images, native where adding in torch's order gives torch's own bits.

That order depends on the shape, so it is looked for at each batch size (`accumulation_order`). Where none is found,
the parts run one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from math import prod

from bittern import ops
from bittern.deploy.engine.accumulation_order import Findings, exact_lanes, exact_order
from bittern.deploy.engine.groups.group import AtBatch, Group, Material, OneNode, Prepared
from bittern.deploy.engine.groups.native import RealGroup
from bittern.deploy.engine.groups.parts import Parts, sizes_at
from bittern.deploy.engine.groups.pool import Pool
from bittern.deploy.engine.groups.torch_node import TorchNode, steps_of
from bittern.deploy.engine.kernel_parameters import affine_rows, clamp_limits, pool_rule
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.native_run import NativeRun
from bittern.deploy.kinds.kind import integer, integers
from bittern.deploy.program import Node


@dataclass(frozen=True)
class RealProduct(RealGroup):
    """A real convolution."""

    node: Node
    affine: Node | None = None
    clamp: Node | None = None
    """A relu, relu6 or hardtanh."""
    pool: Node | None = None
    """Maxima over windows; what they are taken of is then never written as a whole."""

    @property
    def after(self) -> tuple[Node, ...]:
        """The nodes behind the product that it takes in, in order."""
        return tuple(node for node in (self.affine, self.clamp, self.pool) if node is not None)

    @property
    def output(self) -> int:
        return (self.node, *self.after)[-1].output

    @property
    def nodes(self) -> tuple[int, ...]:
        return tuple(node.output for node in (self.node, *self.after))

    @property
    def reads(self) -> tuple[int, ...]:
        return self.node.inputs

    def does(self) -> str:
        words = ["conv"] + ["norm"] * (self.affine is not None) + ([self.clamp.kind] if self.clamp else [])
        return ", ".join(words + ["max pool"] * (self.pool is not None))

    def prepare(self, material: Material) -> AtBatch:
        tensors = self.node.named(material.tensors)
        tail = affine_rows(self.affine, material.tensors), clamp_limits(self.clamp)
        stride, padding, dilation = (integers(self.node, key) for key in ("stride", "padding", "dilation"))
        groups = integer(self.node, "groups")
        parts = Parts(self._parts(), material)
        convs: dict[ops.SumOrder, tuple[Prepared, ...]] = {}

        def find(batch: int) -> tuple[Prepared, ...] | None:
            size = sizes_at(self.node, material, batch)
            order = exact_order(self.node, tensors, convs, size) if prod(size) else None
            if order is None:
                return None
            if order not in convs:
                conv = ops.PreparedRealConv(tensors["weight"], stride, padding, dilation, order, *tail, groups)
                convs[order] = (Prepared(self, partial(self._run, conv)),)
            return convs[order]

        findings = Findings(find)

        def at(batch: int) -> tuple[Prepared, ...]:
            found = findings.at(batch)
            return parts.at(batch) if found is None else found

        return at

    def _parts(self) -> tuple[Group, ...]:
        """The convolution and what follows by torch, but for the pool."""
        if self.pool is None:
            return tuple(TorchNode(node) for node in (self.node, *self.after))
        if self.clamp is None:
            return (TorchNode(self.node), Pool(self.pool, self.affine))
        before = replace(self, pool=None).after
        return (*(TorchNode(node) for node in (self.node, *before)), Pool(self.pool, None))

    def _run(self, conv: ops.PreparedRealConv, layout: Layout) -> NativeRun:
        source, out = self.node.inputs[0], layout.plan.images[self.output]
        images, planned = layout.images_at(source)
        record = conv.step(images, out) if self.pool is None else conv.pooled_step(images, pool_rule(self.pool), out)
        return NativeRun(ops.chosen_isa(), record, strided=[] if planned else [("real", 0, source)])


@dataclass(frozen=True)
class WholeMean(OneNode, RealGroup):
    """A mean of whole images."""

    node: Node

    def does(self) -> str:
        return "mean"

    def prepare(self, material: Material) -> AtBatch:
        torchs, _ = steps_of(self.node, material)
        parts = Parts((TorchNode(self.node),), material)

        @cache
        def mean(lanes: int) -> tuple[Prepared, ...]:
            return (Prepared(self, partial(self._run, lanes)),)

        def find(batch: int) -> int | None:
            size = sizes_at(self.node, material, batch)
            return exact_lanes(torchs, size) if prod(size) else None

        findings = Findings(find)

        def at(batch: int) -> tuple[Prepared, ...]:
            lanes = findings.at(batch)
            return parts.at(batch) if lanes is None else mean(lanes)

        return at

    def _run(self, lanes: int, layout: Layout) -> NativeRun:
        source = self.node.inputs[0]
        record = ops.mean_step(layout.size(source), layout.plan.images[self.node.output], lanes)
        return layout.reading(record, "pool", source)
