# SPDX-License-Identifier: Apache-2.0
"""What tensors spread over processes decide together before any of them steps: sums, and whether to step at all."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.ops.optimizer_step import SPECS, Rule
from bittern.optim._layout import is_sharded, local_tensor


class RowShards(NamedTuple):
    """Where the rows of a DTensor are spread: over the processes along one dimension of a mesh."""

    mesh: Any
    dimension: int

    @property
    def processes(self) -> int:
        return int(self.mesh.size(self.dimension))

    def split(self, rows: int) -> list[int]:
        """How many of so many rows each process has: as many as the first, the last ones what is left."""
        each = -(-rows // self.processes)
        return [max(0, min(each, rows - i * each)) for i in range(self.processes)]


def row_shards(owner: str, p: Tensor) -> RowShards | None:
    """Where the rows of `p` are spread; None where this process has all of them. TypeError for another sharding."""
    if not is_sharded(p):
        return None
    from torch.distributed.tensor import DTensor, Replicate, Shard

    assert isinstance(p, DTensor)
    mesh = p.device_mesh
    spread = [k for k, place in enumerate(p.placements) if not isinstance(place, Replicate) and mesh.size(k) > 1]
    if not spread:
        return None
    if len(spread) > 1 or p.placements[spread[0]] != Shard(0):
        raise TypeError(
            f"{owner}: takes DTensors that are sharded along dimension 0 over one dimension of the mesh and replicated "
            f"over others; got {list(p.shape)} as {p.placements} on {tuple(mesh.shape)} processes; use AdamW for it"
        )
    return RowShards(mesh, spread[0])


def local_gradient(owner: str, p: Tensor) -> Tensor:
    """The gradient of what this process has of `p`; TypeError where it is spread in another way than `p`."""
    assert p.grad is not None
    if getattr(p.grad, "placements", None) != getattr(p, "placements", None):
        raise TypeError(
            f"{owner}: a gradient must be sharded as its parameter; got {getattr(p.grad, 'placements', 'a whole one')} "
            f"for {getattr(p, 'placements', 'a whole one')}; redistribute it"
        )
    return local_tensor(p.grad)


def add_over_shards(params: Sequence[Tensor], parts: Sequence[Tensor]) -> list[Tensor]:
    """`parts`, one of any size for each parameter, summed over the processes with shards of it; replicas count once.

    Parts are of one type and device, and travel in one message for each mesh. Every process of a mesh must call it
    with the same parameters in the same order.
    """
    sums = list(parts)
    groups: dict[tuple[Any, tuple[int, ...]], list[int]] = {}
    for i, p in enumerate(params):
        if is_sharded(p):
            groups.setdefault(_sharded_over(p), []).append(i)
    for (mesh, dimensions), members in groups.items():
        import torch.distributed as dist

        joined = torch.cat([parts[i].flatten() for i in members])
        if joined.device.type != mesh.device_type:  # of parameters that FSDP offloads to the host
            joined = joined.to(mesh.device_type)
        for k in dimensions:
            dist.all_reduce(joined, group=mesh.get_group(k))
        found = torch.split(joined.to(parts[0].device), [parts[i].numel() for i in members])
        for i, total in zip(members, found, strict=True):
            sums[i] = total.view_as(parts[i])
    return sums


def run_together(params: Sequence[Tensor], steps: Sequence[Generator[Tensor, Tensor, None]]) -> None:
    """Runs a step for each of `params`: all yield as often, parts of sums, and are sent those of `add_over_shards`."""
    parts = [next(step) for step in steps]
    while parts:
        sums = add_over_shards(params, parts)
        answers = [_answer(step, total) for step, total in zip(steps, sums, strict=True)]
        parts = [part for part in answers if part is not None]


def _answer(step: Generator[Tensor, Tensor, None], total: Tensor) -> Tensor | None:
    """What a step yields next; None at its end."""
    try:
        return step.send(total)
    except StopIteration:
        return None


def _sharded_over(p: Tensor) -> tuple[Any, tuple[int, ...]]:
    """The mesh of a DTensor, and the dimensions of the mesh that cut it."""
    from torch.distributed.tensor import DTensor, Shard

    assert isinstance(p, DTensor)
    return p.device_mesh, tuple(k for k, placement in enumerate(p.placements) if isinstance(placement, Shard))


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
