"""Steps in the backward pass: each parameter as soon as its gradient exists, so that gradients need no memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

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
    Errors: TypeError for an optimizer of another package; ValueError if a trainable parameter of the model is not in
    the optimizer; RuntimeError if the optimizer already steps in the backward pass.
    """
    if not isinstance(optimizer, LowBitOptimizer):
        raise TypeError(f"fuse_into_backward: takes an optimizer of bittern.optim; got {type(optimizer).__name__}")
    if optimizer.steps_in_backward:
        raise RuntimeError("fuse_into_backward: this optimizer already steps in the backward pass; remove() that first")
    members = {p: (i, j) for i, group in enumerate(optimizer.param_groups) for j, p in enumerate(group["params"])}
    found: list[tuple[Tensor, tuple[int, int]]] = []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        if p not in members:
            raise ValueError(f"fuse_into_backward: parameter {name!r} is not in the optimizer; freeze or add it")
        found.append((p, members[p]))
    hooks = [
        p.register_post_accumulate_grad_hook(_stepper(optimizer, place))  # type: ignore[no-untyped-call]
        for p, place in found
    ]
    optimizer.steps_in_backward = True
    return BackwardSteps(optimizer, hooks)


def _stepper(optimizer: LowBitOptimizer, place: tuple[int, int]) -> Callable[[Tensor], None]:
    def step(p: Tensor) -> None:
        with torch.no_grad():
            optimizer.step_some(("backward", *place), optimizer.param_groups[place[0]], [p])
        p.grad = None

    return step
