# SPDX-License-Identifier: Apache-2.0
"""Tasks of `_distributed_run` for the rules that read whole matrices: Muon and Adafactor over shards of rows.

All processes see the same gradients, so that a step of shards may be compared with one of whole tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from bittern import optim

STEPS, SAVED_AFTER = 4, 2
MATRICES = ((6, 512), (130, 256), (1, 256), (64, 256), (5, 256))
"""Rows that 4 processes have as 2, 2, 2 and 0, ...; of whole blocks of 256. Muon takes three rounds on 2 processes."""
OTHERS = ((7,), (6, 2, 8, 16))
MESHES: dict[int, tuple[tuple[int, ...], ...]] = {1: ((), (1,)), 2: ((2,),), 4: ((4,), (2, 2))}
"""Of so many processes; () is none, for whole tensors."""
RESUMED: dict[int, tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]] = {
    32: (((2, 2), ()), ((), (2,))),
    8: (((4,), (2,)),),
    4: (),
}
"""By bits: the mesh of a checkpoint, and that to go on with. Scales of whole tensors are in one line, so that
`torch.distributed.checkpoint` takes codes from no mesh to none."""

Make = Callable[[Any, int], torch.optim.Optimizer]


def adafactor(params: Any, bits: int) -> torch.optim.Optimizer:
    return optim.Adafactor(params, weight_decay=0.1, momentum=0.9, state_bits=bits, min_8bit_size=16)


def muon(params: Any, bits: int) -> torch.optim.Optimizer:
    return optim.Muon(params, lr=1e-2, state_bits=bits, min_8bit_size=16)


def _mesh(shape: tuple[int, ...]) -> DeviceMesh | None:
    return init_device_mesh("cpu", shape) if shape else None


def _over(mesh: DeviceMesh | None, whole: Tensor) -> Tensor:
    """`whole` on a mesh: sharded by rows over its last dimension, and replicated over another one."""
    if mesh is None:
        return whole
    places = [Replicate()] * (mesh.ndim - 1) + [Shard(0)]
    return distribute_tensor(whole, mesh, places, src_data_rank=None)


def _drawn(shapes: tuple[tuple[int, ...], ...], seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw) for shape in shapes]


def _net(make: Make, mesh: DeviceMesh | None) -> nn.ParameterList:
    shapes = MATRICES if make is muon else (*OTHERS, *MATRICES[:3])
    return nn.ParameterList([nn.Parameter(_over(mesh, p)) for p in _drawn(shapes, 0)])


def _train(net: nn.ParameterList, optimizer: torch.optim.Optimizer, mesh: DeviceMesh | None, steps: range) -> None:
    for step in steps:
        gradients = _drawn(tuple(p.shape for p in net), 1 + step)
        for gradient in gradients[1:3]:
            gradient[-1].view(-1)[step] = float("nan") if step % 2 else float("inf")
        for p, gradient in zip(net, gradients, strict=True):
            p.grad = _over(mesh, gradient)
        optimizer.step()
    optimizer.zero_grad()


def _whole(x: Any) -> Tensor:
    return (x.full_tensor() if isinstance(x, DTensor) else torch.as_tensor(x)).detach().clone()


def _result(prefix: str, net: nn.ParameterList, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Parameters and states; codes and scales in one line, as those of a whole tensor are."""
    found = {f"{prefix} {i}": _whole(p) for i, p in enumerate(net)}
    for i, p in enumerate(net):
        for name, value in optimizer.state[p].items():
            whole = _whole(value)
            found[f"{prefix} {i} {name}"] = (
                whole if whole.is_floating_point() and "absmax" not in name else whole.flatten()
            )
    return found


def whole_matrices(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    """Trains on every mesh of so many processes, and leaves a checkpoint on the way."""
    found: dict[str, Tensor] = {}
    for shape in MESHES[world]:
        mesh = _mesh(shape)
        for make in (adafactor, muon):
            net = _net(make, mesh)
            optimizer = make(net, bits)
            _train(net, optimizer, mesh, range(SAVED_AFTER))
            if any(shape == source for source, _ in RESUMED[bits]):
                parameters, states = get_state_dict(net, optimizer)
                saved = {"model": parameters, "optimizer": states}
                dcp.save(saved, checkpoint_id=folder / f"{make.__name__} {bits} {shape}")
            _train(net, optimizer, mesh, range(SAVED_AFTER, STEPS))
            found |= _result(f"{make.__name__} {shape}", net, optimizer)
    return found


def resumed(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    """Goes on from checkpoints that `whole_matrices` left on other meshes."""
    found: dict[str, Tensor] = {}
    for source, shape in RESUMED[bits]:
        if math.prod(shape) != world:
            continue
        mesh = _mesh(shape)
        for make in (adafactor, muon):
            net = _net(make, mesh)
            optimizer = make(net, bits)
            parameters, states = get_state_dict(net, optimizer)
            saved = folder / f"{make.__name__} {bits} {source}"
            dcp.load({"model": parameters, "optimizer": states}, checkpoint_id=saved)
            set_state_dict(net, optimizer, model_state_dict=parameters, optim_state_dict=states)
            optimizer = _through_a_whole_state_dict(make, bits, net, optimizer)
            _train(net, optimizer, mesh, range(SAVED_AFTER, STEPS))
            found |= _result(f"{make.__name__} {shape}", net, optimizer)
    return found


def _through_a_whole_state_dict(
    make: Make, bits: int, net: nn.ParameterList, optimizer: torch.optim.Optimizer
) -> torch.optim.Optimizer:
    """A new optimizer of the same parameters with the states of this one, which are whole on the way."""
    options = StateDictOptions(full_state_dict=True)
    states = get_optimizer_state_dict(net, optimizer, options=options)
    assert not any(isinstance(x, DTensor) for state in states["state"].values() for x in state.values())
    new = make(net, bits)
    set_optimizer_state_dict(net, new, states, options=options)
    return new


def matrices_in_backward(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    """FSDP2's own parameters and gradients; the mean of two equal gradients is the gradient."""
    found: dict[str, Tensor] = {}
    for make in (adafactor, muon):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(256, 70, bias=False), nn.Tanh(), nn.Linear(70, 33, bias=False))
        if world > 1:
            fully_shard(net, mesh=init_device_mesh("cpu", (world,)))
        optimizer = make(net.parameters(), 32)
        with optim.fuse_into_backward(net, optimizer):  # type: ignore[arg-type]
            for x in _drawn(((8, 256),) * STEPS, 1):
                net(x).pow(2).mean().backward()
        found |= {f"{make.__name__}.{i}": _whole(p) for i, p in enumerate(net.parameters())}
    return found


def sharded_otherwise(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    """By columns: refused by name, before anything has changed."""
    mesh = init_device_mesh("cpu", (world,))
    for make in (adafactor, muon):
        columns = nn.Parameter(distribute_tensor(torch.ones(8, 8), mesh, [Shard(1)]))
        with pytest.raises(TypeError, match=r"along dimension 0 .* got \[8, 8\] as \(Shard\(dim=1\),\) on \(2,\)"):
            make([columns], bits)
        rows = nn.Parameter(distribute_tensor(torch.ones(8, 8), mesh, [Shard(0)]))
        rows.grad = distribute_tensor(torch.ones(8, 8), mesh, [Replicate()])
        with pytest.raises(TypeError, match="a gradient must be sharded as its parameter"):
            make([rows], bits).step()
    return {}
