# SPDX-License-Identifier: Apache-2.0
"""The Bittern backend, ahead of time: which nodes of a graph it takes, and what it makes of them.

A partition is a chain such as permute -> pack_signs -> binary_conv2d -> permute: bits and accumulators stay inside,
real tensors [batch, channels, *space] go in and out. At load the runtime lays the weight bits out for its kernel, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from executorch.exir.backend.backend_details import BackendDetails, PreprocessResult
from executorch.exir.backend.compile_spec_schema import CompileSpec
from executorch.exir.backend.partitioner import DelegationSpec, Partitioner, PartitionResult
from executorch.exir.backend.utils import tag_constant_data
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase

from bittern.deploy.executorch.emit import LAYOUT, PRODUCTS, emit, target_name


class _Support(OperatorSupportBase):
    """Calls of the kernels, and what only moves their values about."""

    def is_node_supported(self, submodules: Any, node: Node) -> bool:
        if target_name(node) in PRODUCTS:
            return True
        return target_name(node) in LAYOUT and (_leads_to_product(node) or _comes_from_product(node))


def _leads_to_product(node: Node) -> bool:
    """Whether all that read `node` are products, or layout before a product."""
    if not node.users:
        return False
    return all(
        target_name(user) in PRODUCTS or (target_name(user) in LAYOUT and _leads_to_product(user))
        for user in node.users
    )


def _comes_from_product(node: Node) -> bool:
    source = node.all_input_nodes[0]
    return target_name(source) in PRODUCTS or (target_name(source) in LAYOUT and _comes_from_product(source))


@final
class BitternPartitioner(Partitioner):  # type: ignore[misc]
    """Tags the low-bit parts of a program for the Bittern backend.

    after: the partitioner that comes next. Each one in turn has the ops decomposed that it does not ask to keep, so
    this one asks for what the next will want.
    """

    def __init__(self, after: Partitioner | None = None) -> None:
        super().__init__()
        self.after = after

    def ops_to_not_decompose(
        self, ep: ExportedProgram
    ) -> tuple[list[torch._ops.OpOverload], Callable[[Node], bool] | None]:
        return ([], None) if self.after is None else self.after.ops_to_not_decompose(ep)

    def partition(self, exported_program: ExportedProgram) -> PartitionResult:
        proposer = CapabilityBasedPartitioner(
            exported_program.graph_module, _Support(), allows_single_node_partition=True
        )
        tags: dict[str, DelegationSpec] = {}
        for partition in proposer.propose_partitions():
            tag = f"bittern{partition.id}"
            tags[tag] = DelegationSpec(BitternBackend.__name__, [])
            for node in partition.nodes:
                node.meta["delegation_tag"] = tag
        tag_constant_data(exported_program)
        return PartitionResult(exported_program, tags)


@final
class BitternBackend(BackendDetails):  # type: ignore[misc]
    """Its name is that under which the kernel library registers itself."""

    @staticmethod
    def preprocess(edge_program: ExportedProgram, compile_specs: list[CompileSpec]) -> PreprocessResult:
        with torch.no_grad():
            return PreprocessResult(processed_bytes=emit(edge_program))
