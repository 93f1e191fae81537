# SPDX-License-Identifier: Apache-2.0
"""Steps in the backward pass: each parameter as soon as its gradient exists, so that gradients need no memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bittern.optim._names import is_flattened
from bittern.optim._optimizer import LowBitOptimizer


class BackwardSteps:
    """The hooks of `fuse_into_backward`; `remove()` or leaving a `with` block takes them off."""

    def __init__(self, optimizer: LowBitOptimizer, hooks: list[Any]) -> None:
        self._optimizer = optimizer
        self._hooks = hooks

    def remove(self) -> None:
        """From here on gradients accumulate again and `optimizer.step()` steps."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._optimizer.steps_in_backward = False

    def __enter__(self) -> BackwardSteps:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def fuse_into_backward(model: nn.Module, optimizer: LowBitOptimizer) -> BackwardSteps:
    """Lets `loss.backward()` step every parameter of `model` when its gradient is complete, and free the gradient.

    Parameter groups and schedulers work as before; `optimizer.step()` may stay in the loop, where it finds nothing to
    do. Every backward pass is a step, so gradients can neither accumulate nor be clipped or unscaled: step(closure)
    and GradScaler.step raise RuntimeError, `clip_grad_percentile_` ValueError because there are no gradients.
    Under FSDP2 (`fully_shard`, before this call) a step follows the reduction of its gradients, so that passes with
    `set_requires_gradient_sync(False)` accumulate. DistributedDataParallel and FSDP1 reduce gradients after the step
    and are refused: with several processes, call this after `init_process_group`, and the forward pass checks too.
    A gradient that a hook of yours averages is right if that hook was registered on the parameter before.
    Errors: TypeError for an optimizer of another package; ValueError if a trainable parameter of the model is not in
    the optimizer, or for nonfinite="raise", which refuses whole steps; RuntimeError if the optimizer already steps in
    the backward pass, or under DistributedDataParallel or FSDP1.
    """
    if not isinstance(optimizer, LowBitOptimizer):
        raise TypeError(f"fuse_into_backward: takes an optimizer of bittern.optim; got {type(optimizer).__name__}")
    if optimizer.steps_in_backward:
        raise RuntimeError("fuse_into_backward: this optimizer already steps in the backward pass; remove() that first")
    for group in optimizer.param_groups:
        _refuse_strict(group)
    found = _fused(model, optimizer)
    for module in model.modules():
        if isinstance(module, nn.parallel.DistributedDataParallel):
            _refuse_late(module, [p for p, _ in found])
    several = _several_processes()
    hooks = [
        p.register_post_accumulate_grad_hook(_stepper(optimizer, place, several))  # type: ignore[no-untyped-call]
        for p, place in found
    ]
    if several:
        for module in model.modules():
            mine = [p for p in module.parameters(recurse=False) if p.requires_grad]
            if mine:
                hooks.append(module.register_forward_pre_hook(_watch(mine)))
    optimizer.steps_in_backward = True
    return BackwardSteps(optimizer, hooks)


def _fused(model: nn.Module, optimizer: LowBitOptimizer) -> list[tuple[Tensor, tuple[int, int]]]:
    """The trainable parameters of `model` with their group and place in the optimizer; errors for what cannot be."""
    members = {p: (i, j) for i, group in enumerate(optimizer.param_groups) for j, p in enumerate(group["params"])}
    found: list[tuple[Tensor, tuple[int, int]]] = []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        if p not in members:
            raise ValueError(f"fuse_into_backward: parameter {name!r} is not in the optimizer; freeze or add it")
        if is_flattened(p):
            raise RuntimeError(
                f"fuse_into_backward: FSDP1 reduces the gradient of {name!r} after the step; shard with fully_shard"
            )
        found.append((p, members[p]))
    return found


def _refuse_strict(group: Mapping[str, Any]) -> None:
    if group["nonfinite"] == "raise":
        raise ValueError(
            'fuse_into_backward: nonfinite="raise" refuses a whole step, but here parameters step one by one; '
            'use nonfinite="skip"'
        )


def _several_processes() -> bool:
    dist = torch.distributed
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _watch(params: Sequence[Tensor]) -> Callable[..., None]:
    """A forward pre-hook that finds a DistributedDataParallel around the module, whenever it was put there."""

    def check(module: nn.Module, _: Any) -> None:
        around = nn.parallel.DistributedDataParallel._get_active_ddp_module()  # type: ignore[no-untyped-call]
        if around is not None:
            _refuse_late(around, params)

    return check


def _refuse_late(ddp: nn.parallel.DistributedDataParallel, params: Sequence[Tensor]) -> None:
    """RuntimeError if `ddp` will reduce the gradient of one of `params` after its step."""
    if ddp.process_group.size() == 1:
        return
    reduced = {id(p) for name, p in ddp.module.named_parameters() if name not in ddp.parameters_to_ignore}
    if any(id(p) in reduced for p in params):
        raise RuntimeError(
            "fuse_into_backward: DistributedDataParallel reduces gradients after this step, the replicas would drift "
            "apart; and its buckets keep the gradients anyway; call optimizer.step(), or shard with fully_shard"
        )


def _stepper(optimizer: LowBitOptimizer, place: tuple[int, int], several: bool) -> Callable[[Tensor], None]:
    def step(p: Tensor) -> None:
        if not several and _several_processes():
            raise RuntimeError("fuse_into_backward: call it after init_process_group, so that it can look for DDP")
        group = optimizer.param_groups[place[0]]
        _refuse_strict(group)
        with torch.no_grad():
            optimizer.step_some(("backward", *place), group, [p])
        p.grad = None

    return step
