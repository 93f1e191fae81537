# SPDX-License-Identifier: Apache-2.0
"""In-place calls as what they compute, where that is plain.

torch.export keeps `relu_(x)` as it stands, and can rewrite a whole graph into one without such calls; that takes
several times as long as the export. Most stand behind a layer whose result nothing else reads: those are renamed here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx


def rename_plain_writes(graph: fx.Graph) -> None:
    """Give calls that write into a value which nothing sees any more the name of the operator that does not write."""
    place = {node: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload) and _writes(node.target):
            pure = _pure(node.target)
            if pure is not None and _is_unseen(node, place):
                node.target = pure


def is_functional(graph: fx.Graph) -> bool:
    """Whether every call of the graph is one operator that writes into none of its inputs."""
    calls = [node.target for node in graph.nodes if node.op == "call_function"]
    return not any(isinstance(target, torch._ops.HigherOrderOperator) or _writes(target) for target in calls)


def _writes(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


def _pure(target: torch._ops.OpOverload) -> Any:
    """The operator without its underscore, if it has the same arguments."""
    schema = target._schema
    name = schema.name.removeprefix("aten::")
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None) if name.endswith("_") else None
    pure = getattr(packet, schema.overload_name or "default", None)
    if pure is None or [a.name for a in pure._schema.arguments] != [a.name for a in schema.arguments]:
        return None
    return pure


def _is_unseen(node: fx.Node, place: dict[fx.Node, int]) -> bool:
    """Whether what a call writes into is a value of its own, of which no later call and no view reads anything."""
    written = node.args[0] if node.args else None
    if not isinstance(written, fx.Node) or written.op != "call_function" or _may_be_view(written):
        return False
    others = [user for user in written.users if user is not node]
    given_once = sum(argument is written for argument in node.all_input_nodes) == 1 and written not in node.args[1:]
    return given_once and all(place[user] < place[node] and not _may_be_view(user) for user in others)


def _may_be_view(node: fx.Node) -> bool:
    """Whether the result of a call may lie in the memory of what it reads. Composite calls need not say so."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return True
    name = node.target.name()  # type: ignore[no-untyped-call]
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd")
    says_so = any(value.alias_info is not None for value in node.target._schema.returns)
    return says_so or (composite and name not in FRESH)


FRESH = frozenset(
    f"aten::{name}"
    for name in (
        *("conv1d", "conv2d", "conv3d", "conv1d.padding", "conv2d.padding", "linear", "matmul"),
        *("batch_norm", "layer_norm", "group_norm", "instance_norm"),
        *("max_pool2d", "adaptive_avg_pool2d", "relu6", "silu", "prelu"),
    )
)
"""Operators made of others whose result is always new."""
