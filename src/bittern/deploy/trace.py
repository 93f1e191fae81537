# SPDX-License-Identifier: Apache-2.0
"""From a module to a graph of its calls.

Tracing is symbolic (torch.fx) with every layer of torch.nn and bittern.nn as a leaf; a forward that branches on data
cannot be traced and ends in an error that says so. What a graph cannot show is refused (`unseen`), and what its calls
write into their inputs is told to later readers (`in_place`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from torch import fx, nn

from bittern.deploy.in_place import WritingProxy, resolve_writes
from bittern.deploy.kinds import PackError
from bittern.deploy.unseen import check_eval, check_seen, cpu_copy, describe_failure, is_leaf

_TRACING = threading.Lock()
"""torch.fx replaces methods of nn.Module for the whole process while it traces, so one thread does at a time."""


class _LeafTracer(fx.Tracer):
    """Traces down to the layers of torch.nn and bittern.nn."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_leaf(m)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:  # another thread's call of its own model
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return WritingProxy(node, self)


def trace(model: nn.Module) -> tuple[fx.Graph, nn.Module]:
    """Graph of a copy of `model` in eval mode on the CPU, and that copy.

    Raises: PackError when it cannot be copied or traced, or does what a graph does not show (`unseen`, `in_place`).
    """
    frozen = copied(check_seen(model))
    if is_leaf(frozen):
        frozen = nn.Sequential(frozen).eval()
    check_eval(frozen)
    try:
        with _TRACING:
            graph = _LeafTracer().trace(frozen)
    except Exception as error:
        raise PackError(
            f"pack: {type(model).__name__} cannot be traced symbolically: {error}; "
            "its forward must not branch on values or shapes of tensors"
        ) from error
    resolve_writes(graph, frozen)
    return graph, frozen


def copied(model: nn.Module) -> nn.Module:
    """`cpu_copy` without gradients. Raises: PackError when it cannot be copied."""
    try:
        frozen = cpu_copy(model)
    except Exception as error:
        raise PackError(
            f"pack: {type(model).__name__} cannot be copied to the CPU ({describe_failure(error)}); keep computed "
            "tensors out of its attributes, or detach them"
        ) from error
    return frozen.requires_grad_(False)
