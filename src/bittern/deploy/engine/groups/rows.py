# SPDX-License-Identifier: Apache-2.0
"""Rows of features, one a sample, native where that gives torch's own bits: products with a weight, and norms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.engine.accumulation_order import Findings, repeats, same_bits
from bittern.deploy.engine.groups.group import AtBatch, Material, OneNode, Prepared, always
from bittern.deploy.engine.groups.native import RealGroup
from bittern.deploy.engine.groups.parts import Parts, sizes_at
from bittern.deploy.engine.groups.torch_node import TorchNode, steps_of
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.native_run import NativeRun
from bittern.deploy.engine.row_order import RowOrder, RowProducts, exact_row_order
from bittern.deploy.program import Node

MOST_WEIGHTS = 2**16
"""Of a native product: a larger one takes torch so long that the way there counts for little. It would be kept twice,
and asking for its order takes longer than many calls."""


@dataclass(frozen=True)
class RowGroup(OneNode, RealGroup):
    """One node of rows."""

    node: Node
    flatten: Node | None
    """In front of it, from images of one pixel: the same memory."""

    @property
    def nodes(self) -> tuple[int, ...]:
        return tuple(node.output for node in (self.flatten, self.node) if node is not None)

    @property
    def reads(self) -> tuple[int, ...]:
        return (self.flatten or self.node).inputs

    def parts(self, material: Material) -> Parts:
        """By torch."""
        nodes = (self.flatten, self.node) if self.flatten is not None else (self.node,)
        return Parts(tuple(map(TorchNode, nodes)), material)


class RowProduct(RowGroup):
    """A linear layer, or a convolution of images of one pixel."""

    def does(self) -> str:
        return self.node.kind

    def prepare(self, material: Material) -> AtBatch:
        tensors = self.node.named(material.tensors)
        tensors["weight"] = tensors["weight"].flatten(1)
        parts, products = self.parts(material), dict[RowOrder, tuple[Prepared, ...]]()

        def find(batch: int) -> tuple[Prepared, ...] | None:
            size = sizes_at(self.node, material, batch)[:2]
            order = exact_row_order(self.node, tensors, products, size) if prod(size) else None
            if order is None:
                return None
            if order not in products:
                run = partial(self._run, RowProducts(tensors["weight"], tensors.get("bias"), order))
                products[order] = (Prepared(self, run),)
            return products[order]

        findings = Findings(find)

        def at(batch: int) -> tuple[Prepared, ...]:
            found = findings.at(batch)
            return parts.at(batch) if found is None else found

        return at

    def _run(self, products: RowProducts, layout: Layout) -> NativeRun:
        records = products.steps(layout.plan.images[self.node.output].flatten(1))
        return layout.reading(records, "linear", self.reads[0])


class RowScale(RowGroup):
    """An affine node of one row per sample, such as a norm behind the mean of whole images."""

    def does(self) -> str:
        return "scale"

    def prepare(self, material: Material) -> AtBatch:
        torchs, _ = steps_of(self.node, material)
        affine = material.tensors[self.node.tensors["affine"]].contiguous()
        parts, native = self.parts(material), always(self, partial(self._run, affine))

        def find(batch: int) -> bool:
            size = sizes_at(self.node, material, batch)
            return prod(size) > 0 and same_bits(torchs, partial(_scales_alike, affine), size)

        findings = Findings(find)
        return lambda batch: native(batch) if findings.at(batch) else parts.at(batch)

    def _run(self, affine: Tensor, layout: Layout) -> NativeRun:
        (source,) = self.reads
        record = ops.pool_step(EACH, layout.size(source), layout.plan.images[self.node.output], affine)
        return layout.reading(record, "pool", source)


EACH = ops.PoolRule(average=False, kernel=(1, 1), stride=(1, 1), padding=(0, 0))
"""Maxima over single numbers, which an affine map may stand in front of."""


def _scales_alike(affine: Tensor, few: Tensor, _: Tensor, expected: Tensor) -> bool:
    rows = few[:, None, None].contiguous()
    found = torch.empty_like(rows)
    record = ops.pool_step(EACH, rows.shape, found, affine)
    record["pool"]["x"], record["sizes"]["input"] = rows.data_ptr(), ops.bytes_of(rows)
    ops.run_steps(ops.chosen_isa(), record)
    return repeats(found.flatten(1), expected)
