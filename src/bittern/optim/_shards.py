# SPDX-License-Identifier: Apache-2.0
"""What tensors spread over processes decide together before any of them steps: norms, and whether to step at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.ops.optimizer_step import SPECS, Rule
from bittern.optim._layout import is_sharded


def add_over_shards(params: Sequence[Tensor], squares: Tensor) -> Tensor:
    """squares [parameters, ...] summed over the processes that hold shards of each DTensor; replicas count once.

    Every process of a mesh must call it with the same parameters in the same order.
    """
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor, Shard

    groups: dict[tuple[Any, tuple[int, ...]], list[int]] = {}
    for i, p in enumerate(params):
        if not is_sharded(p):
            continue
        assert isinstance(p, DTensor)
        sharded = tuple(k for k, placement in enumerate(p.placements) if isinstance(placement, Shard))
        groups.setdefault((p.device_mesh, sharded), []).append(i)
    for (mesh, dimensions), rows in groups.items():
        part = squares[rows]
        for k in dimensions:
            dist.all_reduce(part, group=mesh.get_group(k))
        squares[rows] = part
    return squares


def any_over_shards(params: Sequence[Tensor], flag: bool) -> bool:
    """Whether `flag` is set on any process that holds shards of DTensors among `params`; all of them must call it."""
    import torch.distributed as dist

    meshes = list(dict.fromkeys(p.device_mesh for p in params if is_sharded(p)))  # type: ignore[attr-defined]
    for mesh in meshes * min(2, len(meshes)):  # twice, so that what one mesh found reaches those before it
        found = torch.tensor(float(flag), device=mesh.device_type)
        for k in range(mesh.ndim):
            dist.all_reduce(found, op=dist.ReduceOp.MAX, group=mesh.get_group(k))
        flag = bool(found)
    return flag


def trust_ratio(rule: Rule, norms: Tensor, scalars: Tensor) -> Tensor:
    """float32 [n] from the norms of parameter and direction, float32 [n, 2], in the order of the kernels' operations.

    scalars: float32 [1 or n, K] in the order of `SPECS[rule].scalars`.
    """
    s = dict(zip(SPECS[rule].scalars, scalars.unbind(1), strict=True))
    p_norm, norm = norms.unbind(1)
    if rule == Rule.LAMB:
        ratio = p_norm / norm
    else:
        ratio = s["trust_coefficient"] * p_norm / (norm + s["weight_decay"] * p_norm + s["eps"])
    ratio = torch.where((p_norm > 0) & (norm > 0), ratio, 1.0)
    most = s["max_trust"]
    return torch.where((most > 0) & (ratio > most), most, ratio)
