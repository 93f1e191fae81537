# SPDX-License-Identifier: Apache-2.0
"""The numbers of nodes, as the native steps take them: rows of parameters, rules, thresholds."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bittern.deploy.kinds.bits import half_open_threshold
from bittern.deploy.kinds.kind import integer, integers, number
from bittern.deploy.kinds.node_codes import has_levels
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.program import Node
from bittern.ops import Activation, PoolRule

Tensors = Mapping[str, Tensor]


def activation_parameters(node: Node | None, activation: Activation, out: int, tensors: Tensors) -> Tensor | None:
    """Parameters of the activation of a node behind a product of `out` channels, float32 [n, out], or None."""
    if node is None or not activation.parameters:
        return None
    if activation is Activation.HARDTANH:
        limits = torch.tensor([[number(node, "least")], [number(node, "most")]], dtype=torch.float32)
        return limits.expand(2, out)
    roles = ("weight",) if activation is Activation.PRELU else activation.parameters
    return torch.stack([tensors[node.tensors[role]].expand(out) for role in roles])


def affine_rows(node: Node | None, tensors: Tensors) -> Tensor | None:
    """Rows alpha and beta of an affine node, float32 [2, channels]."""
    return None if node is None else tensors[node.tensors["affine"]].contiguous()


def clamp_limits(node: Node | None) -> tuple[float, float] | None:
    """The least and the most that a clamp gives."""
    clamp = None if node is None else KINDS[node.kind].clamp
    return None if node is None or clamp is None else clamp(node)


def pool_rule(node: Node) -> PoolRule:
    """A pool node as native code takes it."""
    kernel, stride, padding = (integers(node, key) for key in ("kernel", "stride", "padding"))
    return PoolRule(node.attrs["mode"] == "average", kernel, stride, padding, bool(node.attrs["count_padding"]))


def sign_threshold(node: Node, tensors: Tensors) -> Tensor | None:
    """Threshold float32 [channels] of an encode node, or None for 0."""
    if has_levels(node):
        return torch.full((integer(node, "channels"),), half_open_threshold(), dtype=torch.float32)
    return tensors[node.tensors["threshold"]] if "threshold" in node.tensors else None
