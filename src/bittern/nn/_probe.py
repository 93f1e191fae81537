# SPDX-License-Identifier: Apache-2.0
"""Run a model once, in eval mode and without gradients, and leave it as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Example = Tensor | tuple[Tensor, ...]
"""The input of a model: a tensor, or the tuple of its positional arguments. The batch comes first."""

Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]
"""Called after a module's forward with the module, its positional arguments and its output."""


def arguments(owner: str, example: Example) -> tuple[Tensor, ...]:
    """The example as positional arguments. Raises: TypeError when it is neither a tensor nor a tuple of tensors."""
    args = example if isinstance(example, tuple) else (example,)
    if not args or any(not isinstance(a, Tensor) for a in args):
        raise TypeError(
            f"{owner}: example must be a tensor or a tuple of tensors; got {type(example).__name__}; "
            "pass what the model's forward takes"
        )
    return args


def run_once(model: nn.Module, args: tuple[Tensor, ...], hook: Hook) -> None:
    """Run `model` on `args`; `hook` sees every module inside it (and itself) each time that it has run."""
    handles = []
    with eval_mode(model), torch.no_grad():
        try:
            handles = [module.register_forward_hook(hook) for module in model.modules()]
            model(*args)
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is in the mode that it had, also where they differed."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def check_materialized(owner: str, model: nn.Module) -> None:
    """Refuse parameters that get their size at the first forward. Raises: ValueError."""
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ValueError(
                f"{owner}: parameter {name!r} has no size before the first forward; run the model once on an "
                "example, or build it by convert(..., example=...)"
            )
