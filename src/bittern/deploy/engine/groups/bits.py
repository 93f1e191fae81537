# SPDX-License-Identifier: Apache-2.0
"""Native steps that write bits without a product: the signs of real values, pools and concatenations of bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from bittern import ops
from bittern.deploy.engine.groups.group import CPU, AtBatch, Material, OneNode, always
from bittern.deploy.engine.groups.native import NativeGroup
from bittern.deploy.engine.kernel_parameters import affine_rows, sign_threshold
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.native_run import NativeRun
from bittern.deploy.kinds.bits import flip_words, image_windows
from bittern.deploy.program import Node


@dataclass(frozen=True)
class BitGroup(OneNode, NativeGroup):
    """One node that writes bits."""

    node: Node

    @property
    def real(self) -> int | None:
        return None

    @property
    def bits(self) -> int | None:
        return self.node.output


@dataclass(frozen=True)
class Encode(BitGroup):
    """An encode node that native code runs, with an affine node in front of it if there is one."""

    before: Node | None = None

    @property
    def nodes(self) -> tuple[int, ...]:
        return tuple(node.output for node in (self.before, self.node) if node is not None)

    @property
    def source(self) -> int:
        """Value number of what it reads."""
        return (self.before or self.node).inputs[0]

    @property
    def reads(self) -> tuple[int, ...]:
        return (self.source,)

    def does(self) -> str:
        return "bits" if self.before is None else "scale, bits"

    def prepare(self, material: Material) -> AtBatch:
        threshold = sign_threshold(self.node, material.tensors) if self.node.attrs["planes"] == 1 else None
        return always(self, partial(self._run, threshold, affine_rows(self.before, material.tensors)))

    def _run(self, threshold: Tensor | None, affine: Tensor | None, layout: Layout) -> NativeRun:
        images, planned = layout.images_at(self.source)
        record = ops.encode_step(images, threshold, layout.plan.bits[self.node.output], affine)
        return NativeRun(ops.chosen_isa(), record, strided=[] if planned else [("encode", 0, self.source)])


class BitPool(BitGroup):
    """A pool of bits."""

    def does(self) -> str:
        return "max pool of bits"

    def prepare(self, material: Material) -> AtBatch:
        return always(self, partial(self._run, flip_words(self.node, self.node.named(material.tensors), CPU)))

    def _run(self, flip: Tensor | None, layout: Layout) -> NativeRun:
        source = self.node.inputs[0]
        bits, patches = layout.bits_at(source, ("pool_bits", "x", 0, source))
        record = ops.pool_bits_step(*image_windows(self.node), flip, bits, layout.plan.bits[self.node.output])
        return NativeRun(ops.chosen_isa(), record, patches)


class BitConcatenation(BitGroup):
    """Bits side by side."""

    def does(self) -> str:
        return "bits side by side"

    def prepare(self, material: Material) -> AtBatch:
        return always(self, self._run)

    def _run(self, layout: Layout) -> NativeRun:
        inputs = enumerate(self.node.inputs)
        found = [layout.bits_at(value, ("concatenate_bits", "x", index, value)) for index, value in inputs]
        patches = [patch for _, missing in found for patch in missing]
        records = ops.concatenate_bits_steps([bits for bits, _ in found], layout.plan.bits[self.node.output])
        return NativeRun(ops.chosen_isa(), records, patches)
