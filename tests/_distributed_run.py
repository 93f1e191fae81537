# SPDX-License-Identifier: Apache-2.0
"""One process of distributed trainings: python _distributed_run.py RANK WORLD.

It reads tasks, `TASK STATE_BITS FOLDER` a line, and repeats a line when that is done; where one fails, it ends. Every
task trains the same small model on the same batches and rank 0 saves what the parameters became.
"""

from __future__ import annotations

import copy
import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel,
    StateDictType,
    fully_shard,
)
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor

from _distributed_matrices import matrices_in_backward, resumed, sharded_otherwise, whole_matrices
from bittern import optim

STEPS = 4
BATCH = 8


def model() -> nn.Module:
    """Rows of 256 and 512 elements: blocks of 256 restart at rows on one process as they do on several."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(256, 512), nn.Tanh(), nn.Linear(512, 96))


def batch(step: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(step)
    return torch.randn(BATCH, 256, generator=draw), torch.randn(BATCH, 96, generator=draw)


def steps(
    net: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int, rank: int = 0, world: int = 1
) -> None:
    """Each process takes its share of the batch."""
    for step in range(first, last):
        x, y = (part.chunk(world)[rank] for part in batch(step))
        optimizer.zero_grad()
        (net(x) - y).pow(2).mean().backward()
        optimizer.step()


def full(net: nn.Module) -> dict[str, Tensor]:
    """The whole parameters, on every process."""
    return {
        name: (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone() for name, p in net.named_parameters()
    }


def adamw(net: nn.Module, bits: int, eps: float = 1e-8) -> torch.optim.Optimizer:
    """bits below 0: so many, with squares rounded at random."""
    options = {"state_bits": abs(bits), "state_rounding": "stochastic" if bits < 0 else None}
    return optim.AdamW(net.parameters(), lr=1e-2, eps=eps, **options)  # type: ignore[arg-type]


def single(_: int, __: int, folder: Path, bits: int) -> dict[str, Tensor]:
    net = model()
    steps(net, adamw(net, bits), 0, STEPS)
    return full(net)


def ddp(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    net = nn.parallel.DistributedDataParallel(model())
    steps(net, adamw(net, bits), 0, STEPS, rank, world)
    return full(net.module)


def zero(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    net = nn.parallel.DistributedDataParallel(model())
    optimizer = ZeroRedundancyOptimizer(net.parameters(), optim.AdamW, lr=1e-2, state_bits=bits)
    steps(net, optimizer, 0, STEPS, rank, world)
    return full(net.module)


def sharded(world: int) -> nn.Module:
    net = model()
    mesh = init_device_mesh("cpu", (world,))
    for layer in (net[0], net[2]):  # type: ignore[index]
        fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh)
    return net


def fsdp2(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    net = sharded(world)
    steps(net, adamw(net, bits), 0, STEPS, rank, world)
    return full(net)


def save(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    net = sharded(world)
    optimizer = adamw(net, bits)
    steps(net, optimizer, 0, STEPS // 2, rank, world)
    parameters, states = get_state_dict(net, optimizer)
    dcp.save({"model": parameters, "optimizer": states}, checkpoint_id=folder / "checkpoint")
    return full(net)


def load(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    """Goes on from `save`, on another number of processes."""
    net = sharded(world)
    optimizer = adamw(net, bits)
    parameters, states = get_state_dict(net, optimizer)
    loaded = {"model": parameters, "optimizer": states}
    dcp.load(loaded, checkpoint_id=folder / "checkpoint")
    set_state_dict(net, optimizer, model_state_dict=loaded["model"], optim_state_dict=loaded["optimizer"])
    steps(net, optimizer, STEPS // 2, STEPS, rank, world)
    return full(net)


def lamb(net: nn.Module, bits: int) -> torch.optim.Optimizer:
    return optim.LAMB(net.parameters(), lr=1e-2, weight_decay=0.01, state_bits=bits)


def lars(net: nn.Module, bits: int) -> torch.optim.Optimizer:
    return optim.LARS(net.parameters(), lr=1.0, momentum=0.9, trust_coefficient=0.02, state_bits=bits)


def trust(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    """LAMB, then LARS; on one process as it is, on several over shards."""
    found = {}
    for make in (lamb, lars):
        net = sharded(world) if world > 1 else model()
        steps(net, make(net, bits), 0, STEPS, rank, world)
        found |= {f"{make.__name__}.{name}": value for name, value in full(net).items()}
    return found


def uneven(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    """A parameter of one row: all but one process have empty shards, and yet take part in the sum of norms."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(256, 64), nn.Linear(64, 1))
    if world > 1:
        mesh = init_device_mesh("cpu", (world,))
        for layer in net:
            fully_shard(layer, mesh=mesh)
    optimizer = lamb(net, bits)
    for step in range(STEPS):
        x = batch(step)[0].chunk(world)[rank]
        optimizer.zero_grad()
        net(x).pow(2).mean().backward()
        optimizer.step()
    return full(net)


def in_backward(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    """FSDP2 with steps in the backward pass; every batch comes in two halves that accumulate.

    The halves of two processes are other sums than those of one. A gradient's rounding error d moves the first step
    by lr * d * eps / (|g| + eps)^2, at most lr * d / eps. d is up to 4e-9 here, so with eps=1e-8 there is no useful
    bound where g is near 0: float32 torch.optim.AdamW on one process differs by 3e-4 between the two orders, and from
    float64 by 1e-4 in each. Gradients are about 1e-3, so eps=1e-4 leaves the steps about what they are and bounds
    the difference by 4e-7 (3.2e-7 measured with torch's).
    """
    net = sharded(world) if world > 1 else model()
    optimizer = adamw(net, bits, eps=1e-4)
    if world > 1:
        optim.fuse_into_backward(net, optimizer)  # type: ignore[arg-type]
    for step in range(STEPS):
        x, y = (part.chunk(world)[rank] for part in batch(step))
        for last in (False, True):
            if world > 1:
                net.set_requires_gradient_sync(last)  # type: ignore[operator]
            half = slice(len(x) // 2, None) if last else slice(len(x) // 2)
            ((net(x[half]) - y[half]).pow(2).mean() / 2).backward()
        if world == 1:
            optimizer.step()
            optimizer.zero_grad()
    if world > 1:
        assert all(p.grad is None for p in net.parameters())
        assert all(int(optimizer.state[p]["step"]) == STEPS for p in net.parameters())
    return full(net)


def refused_in_backward(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    """DDP in every order, and FSDP1: none of them steps."""
    for fused_first, whole in ((True, False), (False, True), (False, False)):
        net = model()
        before = full(net)
        optimizer = adamw(net, bits)
        steps_of = optim.fuse_into_backward(net, optimizer) if fused_first else None  # type: ignore[arg-type]
        wrapped = nn.parallel.DistributedDataParallel(net)
        with pytest.raises(RuntimeError, match="the replicas would drift"):  # noqa: PT012
            if steps_of is None:
                optim.fuse_into_backward(wrapped if whole else net, optimizer)  # type: ignore[arg-type]
            wrapped(batch(0)[0]).sum().backward()
        assert all(torch.equal(value, before[name]) for name, value in full(net).items())
    net = flattened()
    with pytest.raises(RuntimeError, match="FSDP1 reduces the gradient"):
        optim.fuse_into_backward(net, adamw(net, bits))  # type: ignore[arg-type]
    return {}


def bad_gradient(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    """A NaN in the shard of one process refuses the step on all; two groups, the first of them good."""
    net = sharded(world)
    groups = [{"params": net[2].parameters()}, {"params": net[0].parameters()}]  # type: ignore[index]
    optimizer = optim.AdamW(groups, state_bits=bits, nonfinite="raise")
    before = full(net)
    net(batch(0)[0]).sum().backward()
    if rank == 1:
        net[0].weight.grad.to_local()[0, 0] = float("nan")  # type: ignore[index,union-attr]
    with pytest.raises(FloatingPointError, match="of a parameter" if rank == 1 else "on another process"):
        optimizer.step()
    assert not optimizer.state
    assert all(torch.equal(value, before[name]) for name, value in full(net).items())
    optimizer.zero_grad()
    net(batch(0)[0]).sum().backward()
    optimizer.step()
    return {}


def flattened() -> nn.Module:
    return FullyShardedDataParallel(model(), use_orig_params=True, device_id=torch.device("cpu"))


def fsdp1(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    """FSDP1 saves its states by name, decoded, and goes on from them."""
    net = model() if world == 1 else flattened()
    optimizer = adamw(net, bits)
    steps(net, optimizer, 0, STEPS // 2, rank, world)
    if world > 1:
        # Its default, offload_to_cpu=True, returns views of one buffer where the parameters are on the CPU already:
        # every state is then the last one gathered, with torch.optim as here.
        mixed = FullyShardedDataParallel.optim_state_dict(net, optimizer)
        with pytest.raises(ValueError, match=r"the same numbers for exp_avg, exp_avg_sq.*offload_to_cpu=False"):
            optimizer.load_state_dict(FullyShardedDataParallel.optim_state_dict_to_load(net, optimizer, mixed))
        FullyShardedDataParallel.set_state_dict_type(
            net,
            StateDictType.FULL_STATE_DICT,
            FullStateDictConfig(offload_to_cpu=False),
            FullOptimStateDictConfig(offload_to_cpu=False),
        )
        saved = FullyShardedDataParallel.optim_state_dict(net, optimizer)
        states = [value for state in saved["state"].values() for value in state.values()]
        assert all(value.dtype == torch.float32 for value in states)
        loaded = FullyShardedDataParallel.optim_state_dict_to_load(net, optimizer, saved)
        optimizer = adamw(net, bits)
        optimizer.load_state_dict(loaded)
        for make in (lamb, lars):
            with pytest.raises(TypeError, match="needs whole tensors"):
                make(net, bits)
    steps(net, optimizer, STEPS // 2, STEPS, rank, world)
    if world == 1:
        return full(net)
    with FullyShardedDataParallel.summon_full_params(net):
        return {name.replace("_fsdp_wrapped_module.", ""): p.detach().clone() for name, p in net.named_parameters()}


def momentum(net: nn.Module, bits: int) -> ZeroRedundancyOptimizer:
    return ZeroRedundancyOptimizer(net.parameters(), optim.SGD, lr=1e-2, momentum=0.9, state_bits=bits)


def zero_saved(rank: int, world: int, folder: Path, bits: int) -> dict[str, Tensor]:
    """ZeroRedundancyOptimizer collects its states on one process and goes on from them, bit for bit."""
    net = nn.parallel.DistributedDataParallel(model())
    optimizer = momentum(net, bits)
    steps(net, optimizer, 0, STEPS // 2, rank, world)
    optimizer.consolidate_state_dict(to=0)
    saved = [copy.deepcopy(optimizer.state_dict()) if rank == 0 else None]
    dist.broadcast_object_list(saved, 0)
    twin = copy.deepcopy(net.module)
    steps(net, optimizer, STEPS // 2, STEPS, rank, world)
    again = nn.parallel.DistributedDataParallel(twin)
    optimizer = momentum(again, bits)
    optimizer.load_state_dict(saved[0])
    steps(again, optimizer, STEPS // 2, STEPS, rank, world)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), again.parameters(), strict=True))
    return full(net.module)


TASKS = {
    task.__name__: task
    for task in (
        *(single, ddp, zero, fsdp2, save, load, trust, uneven),
        *(in_backward, refused_in_backward, bad_gradient, fsdp1, zero_saved),
        *(whole_matrices, resumed, matrices_in_backward, sharded_otherwise),
    )
}


LIMIT = timedelta(seconds=100)
"""For one process to wait for another, which may have failed."""


def perform(task: str, rank: int, world: int, folder: Path, bits: int) -> None:
    name = f"{task}{world}{bits}"
    start = f"file://{folder}/{name}"
    dist.init_process_group("gloo", init_method=start, rank=rank, world_size=world, timeout=LIMIT)
    torch.manual_seed(0)
    result = TASKS[task](rank, world, folder, bits)
    if rank == 0:
        torch.save(result, folder / f"{name}.pt")
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    rank, world = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1"}
    status = 0
    try:
        for line in sys.stdin:
            task, bits, folder = line.rstrip("\n").split(" ", 2)
            perform(task, rank, world, Path(folder), int(bits))
            print(line, end="", flush=True)
    except BaseException:
        traceback.print_exc()
        status = 1
    # A gloo thread may still hold a tensor, and torch aborts when it drops one while the interpreter goes down
    # (pytorch/pytorch#179291); all that was to be done is done, so leave without that.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
