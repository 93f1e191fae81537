# SPDX-License-Identifier: Apache-2.0
"""Means of neighbouring channels, native where that gives torch's own bits; else torch sets them apart and adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.engine.accumulation_order import Findings, repeats, same_bits
from bittern.deploy.engine.groups.group import AtBatch, Material, always
from bittern.deploy.engine.groups.native import RealGroup
from bittern.deploy.engine.groups.parts import Parts, sizes_at
from bittern.deploy.engine.groups.torch_node import TorchNode, steps_of
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.native_run import NativeRun
from bittern.deploy.form import Form
from bittern.deploy.kinds.kind import IMAGE_DIMS, integers
from bittern.deploy.program import Node, Program


@dataclass(frozen=True)
class NeighbourMean(RealGroup):
    """Means of so many neighbouring channels of images, which a reshape sets apart."""

    node: Node
    """The mean."""
    reshape: Node
    count: int

    @property
    def output(self) -> int:
        return self.node.output

    @property
    def nodes(self) -> tuple[int, ...]:
        return (self.reshape.output, self.node.output)

    @property
    def reads(self) -> tuple[int, ...]:
        return self.reshape.inputs

    def does(self) -> str:
        return "mean of neighbours"

    def prepare(self, material: Material) -> AtBatch:
        (apart, _), (mean, _) = (steps_of(node, material) for node in (self.reshape, self.node))
        parts = Parts((TorchNode(self.reshape), TorchNode(self.node)), material)
        native = always(self, self._run)

        def find(batch: int) -> bool:
            size = sizes_at(self.reshape, material, batch)
            return prod(size) > 0 and same_bits(lambda x: mean(apart(x)), self._agrees, size)

        findings = Findings(find)
        return lambda batch: (native if findings.at(batch) else parts.at)(batch)

    def _agrees(self, few: Tensor, _: Tensor, expected: Tensor) -> bool:
        images = few.permute(0, 2, 3, 1).contiguous()
        found = torch.empty(*images.shape[:3], expected.shape[1], dtype=torch.float32)
        record = self._record(images.shape, found)
        record["pool"]["x"], record["sizes"]["input"] = images.data_ptr(), ops.bytes_of(images)
        ops.run_steps(ops.chosen_isa(), record)
        return repeats(found.permute(0, 3, 1, 2), expected)

    def _record(self, x: Sequence[int], out: Tensor) -> np.ndarray:
        """A pool of images whose rows are the channels of a pixel."""
        batch, height, width, channels = x
        rule = ops.PoolRule(average=True, kernel=(1, self.count), stride=(1, self.count), padding=(0, 0))
        return ops.pool_step(rule, (batch, height * width, channels, 1), out.view(batch, height * width, -1, 1), None)

    def _run(self, layout: Layout) -> NativeRun:
        (source,) = self.reads
        record = self._record(layout.size(source), layout.plan.images[self.output])
        return layout.reading(record, "pool", source)


def mean_of_neighbours(program: Program, forms: Mapping[int, Form], node: Node) -> NeighbourMean | None:
    """The mean over dimension 2 behind a reshape of images from [batch, a * k, ...] to [batch, a, k, ...]."""
    apart = program.producer(node.inputs[0])
    if node.kind != "mean" or node.attrs["keep"] or apart is None or apart.kind != "reshape":
        return None
    before, after = forms[apart.inputs[0]], forms[apart.output].shape
    image = before.type == "real" and len(before.shape) == IMAGE_DIMS and before.samples_first
    if not image or len(after) != IMAGE_DIMS + 1 or program.single_consumer(apart.output) is not node:
        return None
    parted = (before.shape[0], after[1] * after[2], *after[3:]) == before.shape
    return NeighbourMean(node, apart, after[2]) if parted and integers(node, "dims") == [2] else None
