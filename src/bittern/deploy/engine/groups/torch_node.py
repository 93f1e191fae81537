# SPDX-License-Identifier: Apache-2.0
"""A node that runs by itself: by torch, or a product of bits by a native call of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from bittern.deploy.engine.accumulation_order import Findings, same_bits, with_random_weight
from bittern.deploy.engine.groups.group import CPU, AtBatch, Material, OneNode, OwnMemory, always
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.native_run import TorchRun
from bittern.deploy.kinds.kind import IMAGE_DIMS, Build, Step, channels_last
from bittern.deploy.kinds.real import pads_whole_windows
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.program import Node

Steps = tuple[Step, Step | None]
"""A node by torch: as in the training graph, and on images with channels last."""


@dataclass(frozen=True)
class TorchNode(OneNode, OwnMemory):
    """One node."""

    node: Node
    why: str = ""
    """Why a product of bits is no block."""

    @property
    def how(self) -> str:
        return "torch" if KINDS[self.node.kind].accumulators is None else "own call"

    @property
    def real(self) -> int | None:
        return None

    @property
    def bits(self) -> int | None:
        return None

    @property
    def view(self) -> bool:
        return KINDS[self.node.kind].view

    @property
    def product(self) -> Node | None:
        return self.node if self.node.kind == "binary" else None

    def does(self) -> str:
        return self.node.kind if self.product is None else f"not fused: {self.why}"

    def prepare(self, material: Material) -> AtBatch:
        as_trained, last = steps_of(self.node, material)
        shape = material.forms[self.node.inputs[0]].shape
        if last is None or len(shape) != IMAGE_DIMS:
            return always(self, partial(self._run, as_trained))

        def find(batch: int) -> bool:
            """Whether the step with channels last has, bit for bit, the result of the training graph's layout."""
            if batch == 0:
                return False
            torchs, other = steps_of(self.node, material, with_random_weight)
            assert other is not None

            def agrees(_: Tensor, x: Tensor, expected: Tensor) -> bool:
                return torch.equal(other(channels_last(x)), expected)

            return same_bits(torchs, agrees, (batch, *shape[1:]))

        findings = Findings(find)
        contiguous, channels = (always(self, partial(self._run, step)) for step in (as_trained, last))
        return lambda batch: (channels if findings.at(batch) else contiguous)(batch)

    def _run(self, step: Step, layout: Layout) -> TorchRun:
        return TorchRun(self.node, step)


def steps_of(
    node: Node,
    material: Material,
    change: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = lambda tensors: tensors,
) -> Steps:
    """A node by torch, prepared; change: of its tensors first."""
    kind, named = KINDS[node.kind], change(node.named(material.tensors))
    if kind.product and material.real != torch.float32:
        return _in_type(material.real, kind.build_last or kind.build, node, named), None
    build_last = None if pads_whole_windows(node, named) else kind.build_last
    last = None if build_last is None else build_last(node, named, CPU)
    return kind.build(node, named, CPU), last


def _in_type(dtype: torch.dtype, build: Build, node: Node, named: Mapping[str, Tensor]) -> Step:
    """A real product in another type, with float32 around it."""
    step = build(node, {role: tensor.to(dtype) for role, tensor in named.items()}, CPU)
    return lambda x: step(x.to(dtype)).float()
