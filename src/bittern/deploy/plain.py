# SPDX-License-Identifier: Apache-2.0
"""Computing the same whatever modes of torch the caller has set.

Autocast would compute real layers in bfloat16, inference mode would make tensors that later calls may not use, a
default device would put new tensors elsewhere, and a thread that flushes subnormal numbers rounds otherwise than those
that it shares its work with. A packed model promises one answer, so none of them holds while it runs. (A default dtype
is a setting of the whole process, which no call may change for others: code here names the type of what it makes.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

_SUBNORMAL, _ONE = 5e-324, 1.0


def flushes_subnormals() -> bool:
    """Whether this thread takes subnormal numbers for 0 (`torch.set_flush_denormal`)."""
    return _SUBNORMAL * _ONE == 0.0


def modes_are_set(device_type: str) -> bool:
    """Whether `plain_torch` would change more than that no gradients are tracked; cheap enough for every call."""
    return torch.is_autocast_enabled(device_type) or torch.is_inference_mode_enabled() or flushes_subnormals()


@contextmanager
def plain_torch(device_type: str = "cpu") -> Iterator[None]:
    """Inside, this thread computes without gradients, autocast, inference mode and flushed subnormals."""
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        if torch.is_autocast_enabled(device_type):
            stack.enter_context(torch.autocast(device_type, enabled=False))
        if flushes_subnormals():
            torch.set_flush_denormal(False)
            stack.callback(torch.set_flush_denormal, True)
        yield


def untracked(run: Callable[..., Any], *args: Any) -> Any:
    """What a function returns, computed without gradients, in half the time of `torch.no_grad`."""
    if not torch.is_grad_enabled():
        return run(*args)
    torch.set_grad_enabled(False)
    try:
        return run(*args)
    finally:
        torch.set_grad_enabled(True)


@contextmanager
def plain_cpu() -> Iterator[None]:
    """`plain_torch` where new tensors are made on the CPU too, and the random state of torch is left as it was."""
    with plain_torch(), torch.random.fork_rng(devices=[]), ExitStack() as stack:
        if torch.backends.mha.get_fastpath_enabled():  # attention by another order of sums, in eval mode alone
            torch.backends.mha.set_fastpath_enabled(False)
            stack.callback(torch.backends.mha.set_fastpath_enabled, True)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
